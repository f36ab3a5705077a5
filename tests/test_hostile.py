"""Nets and settings that once gave wrong numbers quietly, or changed what is the user's."""

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import EarlyStopping, EpochScoring
from skorch.helper import SliceDict
from torch import nn
from torch.utils.checkpoint import checkpoint

from skinfluence import GradientEmbedding, NormDetector
from skinfluence.exceptions import BatchLossWarning, HeldOutRowsWarning
from skinfluence.gradients import gradient_norms, per_sample_gradients
from skinfluence.nets import default_net
from tests._shared.problems import (
    SmallMlp,
    blobs,
    classifier,
    fitted_classifier,
    noisy_blobs,
    paper_method,
    regressor,
)


def untrained(module, **kwargs):
    torch.manual_seed(0)
    return NeuralNetClassifier(module, criterion=nn.CrossEntropyLoss, **kwargs).initialize()


def test_closure_over_the_original_module_is_refused():
    class Closure(SmallMlp):
        def __init__(self):
            super().__init__()
            self.shortcut = lambda X: self.head(self.body(X))

        def forward(self, X):
            return self.shortcut(X)

    X, y = blobs()
    with pytest.raises(ValueError, match="not those of its submodules, as a lambda"):
        per_sample_gradients(untrained(Closure), X, y, layers="all")


def test_hooked_layer_is_not_factored_even_where_the_first_rows_show_nothing():
    class Hooked(SmallMlp):
        """The first rows have zero gradient in the body: its ReLUs are dead for them."""

        def __init__(self):
            super().__init__()
            self.body[0].register_forward_hook(lambda module, args, output: output * 2)

    X, y = blobs()
    X = np.abs(X)
    X[:4] *= -100
    net = untrained(Hooked)
    with torch.no_grad():
        net.module_.body[0].weight.abs_()
    found = per_sample_gradients(net, X, y, layers=["body.*"])
    plain = untrained(SmallMlp)
    plain.module_.load_state_dict(net.module_.state_dict())
    with torch.no_grad():  # doubling weight and bias doubles the output
        for parameter in plain.module_.body[0].parameters():
            parameter.mul_(2)
    expected = 2 * per_sample_gradients(plain, X, y, layers=["body.*"])
    assert np.abs(expected[:4]).max() == 0
    assert np.abs(expected[4:]).max() > 0
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-4)


def test_reentrant_checkpoint_is_refused():
    class Checkpointed(SmallMlp):
        def forward(self, X):
            return checkpoint(self.head, self.body(X), use_reentrant=True)

    X, y = blobs()
    with (
        pytest.warns(UserWarning, match="None of the inputs have requires_grad"),
        pytest.raises(ValueError, match="use_reentrant=False"),
    ):
        per_sample_gradients(untrained(Checkpointed), X, y)


def test_frozen_net_that_held_rows_out_is_warned_of():
    X, y, _ = noisy_blobs()
    torch.manual_seed(0)
    net = NeuralNetClassifier(SmallMlp, criterion=nn.CrossEntropyLoss, max_epochs=1, verbose=0)
    net.fit(X, y)
    with pytest.warns(HeldOutRowsWarning):
        GradientEmbedding(FrozenEstimator(net)).fit(X, y)


@pytest.mark.filterwarnings("ignore:You set iterator_valid__shuffle=True")
def test_predicted_labels_belong_to_their_rows_under_a_shuffling_loader():
    X, y, _ = noisy_blobs()
    plain = fitted_classifier(X, y)
    shuffling = fitted_classifier(X, y, iterator_valid__shuffle=True)
    expected = GradientEmbedding(FrozenEstimator(plain)).fit(X, y).transform(X)
    found = GradientEmbedding(FrozenEstimator(shuffling)).fit(X, y).transform(X)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_collate_function_that_sorts_is_refused():
    def sort(rows):
        rows = sorted(rows, key=lambda row: row[0][0])
        return torch.tensor(np.stack([x for x, _ in rows])), torch.tensor([t for _, t in rows])

    X, y = blobs()
    net = untrained(SmallMlp, iterator_valid__collate_fn=sort)
    with pytest.raises(ValueError, match="collate_fn, sort, changes the order"):
        per_sample_gradients(net, X, y)


def test_named_classes_set_the_order_of_the_outputs():
    X, y, _ = noisy_blobs(n_classes=2)
    names = np.array(["pos", "neg"])
    net = classifier(classes=["pos", "neg"], module__n_outputs=2)
    method = paper_method(net, detector=NormDetector(), random_state=0)
    method.fit(X, names[y])
    assert list(method.classes_) == ["pos", "neg"]
    again = paper_method(FrozenEstimator(method.net_), detector=NormDetector())
    np.testing.assert_allclose(
        again.fit(X, names[y]).detrimentality_, method.detrimentality_, rtol=1e-6
    )


def test_small_floats_do_not_overflow_in_norms():
    class Half(nn.Linear):
        def __init__(self):
            super().__init__(4, 3, dtype=torch.bfloat16)

    X, y = blobs()
    norms = gradient_norms(untrained(Half), 100 * X, y)
    assert norms.dtype == np.float32
    assert np.isfinite(norms).all()
    assert np.isfinite(per_sample_gradients(untrained(Half), X, y)).all()


def test_missing_targets_are_not_taken_for_zeros():
    X, _ = blobs()
    torch.manual_seed(0)
    net = regressor().initialize()
    for function in (per_sample_gradients, gradient_norms):
        with pytest.raises(ValueError, match="Got y=None"):
            function(net, X, None)


def test_one_dimensional_target_of_a_custom_loss_is_not_broadcast():
    class RootMeanSquare(nn.Module):
        def forward(self, output, target):
            assert output.shape == target.shape
            return (output - target).square().mean().sqrt()

    X, _ = blobs()
    method = paper_method(
        regressor(criterion=RootMeanSquare), detector=NormDetector(), random_state=0
    )
    with pytest.warns(BatchLossWarning):  # a root of a mean is no mean of roots
        method.fit(X, X[:, 0])
    assert np.isfinite(method.detrimentality_).all()


def test_nearly_constant_column_does_not_explode():
    X, y = blobs()
    X[:, 0] = 0.1
    net = default_net(X, y, random_state=0).fit(X, y)
    X[:, 0] += 0.01
    assert np.abs(net.forward(X).numpy()).max() < 1e3


def test_default_net_takes_float64():
    X, y = blobs()
    assert default_net(X.astype(np.float64), y, random_state=0).fit(X.astype(np.float64), y)


class Overwriting(SmallMlp):
    """Writes into its buffer and, from the fifth row on, into its input."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, X):
        self.calls.add_(1)
        if (X > 1e3).any():
            X.clamp_(max=1e3)
        return super().forward(X)


def test_buffers_stay_as_they_are():
    X, y = blobs()
    net = untrained(Overwriting)
    gradient_norms(net, X, y, layers="all")
    assert net.module_.calls.item() == 0


def test_late_writing_into_the_input_does_not_pass_in_silence():
    X, y = blobs()
    X[51, 0] = 1e4  # not among the rows that are tried
    with pytest.raises(ValueError, match="wrote into its input on this batch"):
        gradient_norms(untrained(Overwriting), X, y, batch_size=16)


def test_renormalising_embedding_leaves_the_users_table_alone():
    class Renormalising(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.head = nn.Embedding(9, 4, max_norm=0.1), nn.Linear(4, 2)

        def forward(self, X):
            return self.head(self.words(X).mean(1))

    net = untrained(Renormalising)
    before = net.module_.words.weight.clone()
    rng = np.random.default_rng(0)
    gradient_norms(net, rng.integers(0, 9, (20, 3)), rng.integers(0, 2, 20))
    assert torch.equal(net.module_.words.weight, before)


def test_criterion_keeps_its_mode():
    X, y, _ = noisy_blobs()
    net = fitted_classifier(X, y)
    net.criterion_.train()
    GradientEmbedding(FrozenEstimator(net)).fit(X, y).transform(X)
    assert net.criterion_.training


@pytest.mark.parametrize(
    "callbacks",
    [
        [("stop", EarlyStopping(monitor="own_score", sink=lambda _: None))],
        [EarlyStopping],
    ],
    ids=["other_name", "class"],
)
def test_callbacks_that_watch_validation_rows_keep_their_split(callbacks):
    X, y, _ = noisy_blobs()
    score = EpochScoring("accuracy", name="own_score", lower_is_better=False)
    net = NeuralNetClassifier(
        SmallMlp,
        criterion=nn.CrossEntropyLoss,
        max_epochs=2,
        verbose=0,
        callbacks=[("score", score), *callbacks],
    )
    with pytest.warns(HeldOutRowsWarning):
        GradientEmbedding(net, random_state=0).fit(X, y)


def test_outputs_that_are_no_predictions_of_the_target():
    class MeanAndVariance(nn.Module):
        def forward(self, output, target):
            mean, log_variance = output[:, 0], output[:, 1]
            error = (target.reshape(-1) - mean) ** 2
            return (log_variance + error / log_variance.exp()).mean()

    X, _ = blobs()
    net = regressor(criterion=MeanAndVariance, module__n_outputs=2)
    method = paper_method(net, detector=NormDetector(), random_state=0)
    assert np.isfinite(method.fit(X, X[:, 0]).detrimentality_).all()
    assert not hasattr(method, "transform")


def test_double_dict_inputs_are_cast():
    class TwoInputs(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = SmallMlp()

        def forward(self, left, right):
            return self.net(torch.cat([left, right], 1))

    X, y, _ = noisy_blobs()
    X = X.astype(np.float64)
    for container in (dict, SliceDict):
        inputs = container(left=X[:, :2], right=X[:, 2:])
        method = paper_method(classifier(TwoInputs), detector=NormDetector(), random_state=0).fit(
            inputs, y
        )
        assert np.isfinite(method.transform(inputs)).all()


def test_squeezed_outputs_pass():
    class Squeezed(SmallMlp):
        def __init__(self):
            super().__init__(n_outputs=1)

        def forward(self, X):
            return super().forward(X).squeeze()

    X, _ = blobs()
    torch.manual_seed(0)
    net = NeuralNetRegressor(Squeezed).initialize()
    norms = gradient_norms(net, X, X[:, 0])
    assert np.isfinite(norms).all()
