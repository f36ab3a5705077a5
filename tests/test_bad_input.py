"""Bad input gets an error that names the value, the expectation and the fix, or a right answer."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from skinfluence import GradientEmbedding, NormDetector, OutlierGradientDetector
from skinfluence.gradients import (
    check_per_sample_gradients,
    gradient_norms,
    per_sample_gradients,
)
from skinfluence.nets import default_net
from tests._shared.problems import SmallMlp, blobs, classifier, fitted_classifier, regressor

ESTIMATORS = [GradientEmbedding, OutlierGradientDetector]
every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)


@every_estimator
def test_missing_labels(estimator):
    X, _ = blobs()
    with pytest.raises(ValueError, match=r"requires y to be passed.*call fit\(X, y\)"):
        estimator().fit(X)


@pytest.mark.usefixtures("brief_nets")
@every_estimator
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_named(estimator, value):
    X, y = blobs()
    X[[4, 17], 2] = value
    with pytest.raises(ValueError, match=r"X holds NaN or infinity in 2 of 90 rows: 4, 17\."):
        estimator().fit(X, y)
    fitted = estimator(random_state=0).fit(*blobs())
    with pytest.raises(ValueError, match=r"in 2 of 90 rows: 4, 17"):
        fitted.transform(X)


@every_estimator
def test_columns_of_words_are_named_with_what_makes_numbers_of_them(estimator):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    X, y = blobs()
    table = pandas.DataFrame(X, columns=[f"x{number}" for number in range(X.shape[1])])
    table["digits"] = "7"  # which numpy reads as numbers
    table["kind"] = pandas.Categorical(np.array(["a", "b"])[y % 2])
    table["word"] = pandas.array(["one", None, *["two"] * 88], dtype="string")
    expected = (
        r"words in the columns \['kind', 'word'\].*TableVectorizer\(\), " + estimator.__name__
    )
    with pytest.raises(ValueError, match=expected):
        estimator().fit(table, y)


@every_estimator
def test_numbers_too_large_for_the_net_are_named(estimator):
    X, y = blobs()
    X = X.astype(np.float64)
    X[3, 0] = 1e200
    with pytest.raises(ValueError, match=r"X as float32 holds NaN or infinity in 1 .*: 3\."):
        estimator(classifier()).fit(X, y)


@every_estimator
@pytest.mark.parametrize("missing", [None, np.nan])
def test_labels_that_are_missing_are_named(estimator, missing):
    X, y = blobs()
    labels = np.array(["a", "b", "c"], dtype=object)[y]
    labels[5] = missing
    with pytest.raises(ValueError, match=r"y contains NaN, NaT or None in 1 of 90 rows: 5"):
        estimator().fit(X, labels)
    if missing is not None:
        numbers = y.astype(float)
        numbers[5] = missing
        with pytest.raises(ValueError, match=r"y holds NaN or infinity in 1 of 90 rows: 5"):
            estimator().fit(X, numbers)


@every_estimator
def test_lengths_that_differ(estimator):
    X, y = blobs()
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        estimator().fit(X, y[:-1])


@every_estimator
@pytest.mark.parametrize("X", [np.zeros(20), np.zeros((20, 3, 4)), np.zeros((20, 0))])
def test_shapes_the_default_net_does_not_take(estimator, X):
    with pytest.raises(ValueError, match=r"2D array|shape \(20, 3, 4\)|0 feature"):
        estimator().fit(X, np.arange(20) % 2)


@every_estimator
def test_one_sample(estimator):
    with pytest.raises(ValueError, match="1 sample"):
        estimator().fit(np.zeros((1, 3)), [0])


@every_estimator
def test_one_class(estimator):
    X, _ = blobs()
    with pytest.raises(ValueError, match=r"y holds one class, 'a'; .*at least two"):
        estimator().fit(X, np.full(len(X), "a"))


@pytest.mark.usefixtures("brief_nets")
@every_estimator
def test_features_that_differ_from_fit(estimator):
    X, y = blobs()
    fitted = estimator(random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="X has 3 features"):
        fitted.transform(X[:, :3])


@every_estimator
def test_before_fit(estimator):
    X, _ = blobs()
    with pytest.raises(NotFittedError):
        estimator().transform(X)


@pytest.mark.parametrize("squeeze", [False, True])
def test_one_dimensional_target_is_not_broadcast(squeeze):
    class Net(SmallMlp):
        def forward(self, X):
            output = super().forward(X)
            return output[:, 0] if squeeze else output

    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 4)).astype(np.float32)
    y = rng.normal(size=40)
    for target in (y, y[:, None]):
        fitted = GradientEmbedding(regressor(Net), random_state=0).fit(X, target)
        residual = fitted.net_.predict(X).reshape(-1) - y
        # the bias is the last column: its gradient is twice the residual, row by row
        np.testing.assert_allclose(fitted.embedding_[:, -1], 2 * residual, rtol=1e-3, atol=1e-4)


def test_target_of_another_width_than_the_outputs():
    X, _ = blobs()
    with pytest.raises(ValueError, match=r"output has shape \(n, 1\), but y has shape \(90, 2\)"):
        GradientEmbedding(regressor()).fit(X, np.full((90, 2), 0.5))


@every_estimator
def test_too_few_outputs(estimator):
    X, y = blobs()
    with pytest.raises(ValueError, match=r"2 outputs, but y holds 3 classes.*n_outputs=3"):
        estimator(classifier(module__n_outputs=2)).fit(X, y)


def test_more_outputs_than_classes_are_fine():
    X, y = blobs()
    fitted = GradientEmbedding(classifier(module__n_outputs=5), random_state=0).fit(X, y)
    assert fitted.embedding_.shape == (90, 5 * 17)


def test_binary_net_with_three_classes():
    X, y = blobs()
    net = NeuralNetBinaryClassifier(SmallMlp, module__n_outputs=1)
    with pytest.raises(ValueError, match=r"two classes apart, but y holds 3: \[0, 1, 2\]"):
        GradientEmbedding(net).fit(X, y)


def test_classifier_with_a_numeric_target():
    X, _ = blobs()
    with pytest.raises(ValueError, match=r"numbers with a fraction.*NeuralNetRegressor"):
        GradientEmbedding(classifier()).fit(X, np.linspace(0, 1, 90))


def test_plain_net_with_strings():
    X, y = blobs()
    net = NeuralNet(SmallMlp, criterion=nn.CrossEntropyLoss)
    with pytest.raises(ValueError, match=r"such as 'a', but NeuralNet takes numbers"):
        GradientEmbedding(net).fit(X, np.array(["a", "b", "c"])[y])


def test_module_that_does_not_fit_the_features():
    X, y = blobs()
    with pytest.raises(ValueError, match=r"cannot take a batch of shape \(2, 4\).*first layer"):
        GradientEmbedding(classifier(module__n_inputs=7)).fit(X, y)


@pytest.mark.parametrize("net", [SmallMlp, SmallMlp(), LogisticRegression(), "mlp"])
def test_what_is_no_net(net):
    X, y = blobs()
    with pytest.raises(TypeError, match=r"(expected|or) a skorch net"):
        GradientEmbedding(net).fit(X, y)


def test_frozen_estimator_that_is_no_fitted_net():
    X, y = blobs()
    with pytest.raises(TypeError, match=r"expected a frozen skorch net|or a skorch net"):
        GradientEmbedding(FrozenEstimator(LogisticRegression())).fit(X, y)
    with pytest.raises(NotFittedError, match=r"Call net\.fit"):
        GradientEmbedding(FrozenEstimator(classifier())).fit(X, y)


@every_estimator
def test_labels_a_frozen_net_never_saw(estimator):
    X, y = blobs()
    net = FrozenEstimator(fitted_classifier(X[y < 2], y[y < 2]))
    with pytest.raises(ValueError, match=r"never trained on: \[2\]\. It knows \[0, 1\]"):
        estimator(net).fit(X, y)
    fitted = estimator(classifier(), random_state=0).fit(X, np.array(["a", "b", "c"])[y])
    label = "score_detrimentality" if hasattr(fitted, "score_detrimentality") else "embed"
    with pytest.raises(ValueError, match=r"never trained on: \['d'\]"):
        getattr(fitted, label)(X[:1], ["d"])


@every_estimator
@pytest.mark.parametrize("layers", ["hed", ["head", "nothing.*"], []])
def test_unknown_layer_lists_those_there_are(estimator, layers):
    X, y = blobs()
    with pytest.raises(ValueError, match=r"layers=.*names or patterns of: body\.0, head\."):
        estimator(classifier(), layers=layers).fit(X, y)


@pytest.mark.parametrize("layers", ["head", ["head"], ["h*d"], "last"])
def test_ways_to_name_a_layer(layers):
    X, y = blobs()
    fitted = GradientEmbedding(classifier(), layers=layers, random_state=0).fit(X, y)
    assert fitted.strategy_ == {"head": "factored"}


@every_estimator
@pytest.mark.parametrize(
    ("name", "value"), [("batch_size", 0), ("batch_size", 2.5), ("max_bytes", -1)]
)
def test_sizes_are_positive_integers(estimator, name, value):
    X, y = blobs()
    with pytest.raises(ValueError, match=rf"{name}={value}, but expected an integer >= 1"):
        estimator(**{name: value}).fit(X, y)


@pytest.mark.usefixtures("brief_nets")
def test_embedding_larger_than_allowed_is_refused_before_it_is_made():
    X, y = blobs()
    with pytest.raises(ValueError, match=r"195 columns .* take 70200 bytes.*n_components=194"):
        GradientEmbedding(max_bytes=70_199, random_state=0).fit(X, y)
    assert GradientEmbedding(max_bytes=70_200, random_state=0).fit(X, y).embedding_.nbytes == 70_200


def test_diverged_training_is_not_scored():
    X, y = blobs()
    net = classifier(optimizer=torch.optim.SGD, lr=1e20)
    for detector in (None, NormDetector()):
        with pytest.raises(ValueError, match="training diverged"):
            OutlierGradientDetector(net, detector=detector, random_state=0).fit(X, y)


def test_unfitted_net_has_no_gradients():
    X, y = blobs()
    for function in (per_sample_gradients, gradient_norms, check_per_sample_gradients):
        with pytest.raises(NotFittedError, match=r"net\.fit\(X, y\)"):
            function(classifier(), X, y)


def test_order_of_the_norm():
    X, y = blobs()
    with pytest.raises(ValueError, match="ord=3, but expected 1"):
        gradient_norms(fitted_classifier(X, y), X, y, ord=3)


def test_net_without_trainable_parameters():
    class Frozen(SmallMlp):
        def __init__(self):
            super().__init__()
            self.requires_grad_(False)

    X, y = blobs()
    net = classifier(Frozen).initialize()
    with pytest.raises(ValueError, match="no trainable parameter"):
        gradient_norms(net, X, y)


def test_net_that_is_random_in_eval_mode():
    class Noisy(SmallMlp):
        def forward(self, X):
            return nn.functional.dropout(super().forward(X), training=True)

    X, y = blobs()
    with pytest.raises(ValueError, match=r"different outputs for the same rows.*self\.training"):
        gradient_norms(classifier(Noisy).initialize(), X, y)


def test_net_that_mixes_rows():
    class Centred(SmallMlp):
        def forward(self, X):
            return super().forward(X - X.mean(0))

    X, y = blobs()
    with pytest.raises(ValueError, match="depends on the other rows of its batch"):
        gradient_norms(classifier(Centred).initialize(), X, y)


def same_net(net, **kwargs):
    """The net's weights under other settings of its loader."""
    other = classifier(**kwargs).initialize()
    other.module_.load_state_dict(net.module_.state_dict())
    return other


@pytest.mark.filterwarnings("ignore:You set iterator_valid__shuffle=True")
def test_loader_that_shuffles_is_put_in_order():
    X, y = blobs()
    net = fitted_classifier(X, y)
    shuffling = same_net(net, iterator_valid__shuffle=True)
    np.testing.assert_allclose(
        per_sample_gradients(shuffling, X, y), per_sample_gradients(net, X, y), atol=1e-6
    )
    assert shuffling.iterator_valid__shuffle


def test_loader_that_cannot_be_put_in_order_is_refused():
    class Shuffling(torch.utils.data.DataLoader):
        def __init__(self, dataset, batch_size, **kwargs):
            super().__init__(dataset, batch_size=batch_size, shuffle=True)

    X, y = blobs()
    net = same_net(fitted_classifier(X, y), iterator_valid=Shuffling)
    with pytest.raises(ValueError, match="RandomSampler, may change the order"):
        per_sample_gradients(net, X, y)


def test_own_collate_function_is_used():
    def collate(rows):
        X, y = zip(*rows)
        return torch.tensor(np.stack(X)) * 0 + 1.0, torch.tensor(np.array(y))

    X, y = blobs()
    net = fitted_classifier(X, y)
    collating = same_net(net, iterator_valid__collate_fn=collate)
    expected = per_sample_gradients(net, np.ones_like(X), y)
    np.testing.assert_allclose(per_sample_gradients(collating, X, y), expected, atol=1e-6)


def test_default_net_refuses_what_it_cannot_predict():
    with pytest.raises(ValueError, match="takes classes or numbers"):
        default_net(np.zeros((6, 2)), np.arange(12).reshape(6, 2))
    with pytest.raises(ValueError, match="the default net takes arrays"):
        GradientEmbedding().fit({"a": np.zeros((4, 2))}, np.arange(4) % 2)


@pytest.mark.usefixtures("brief_nets")
def test_untouched_input():
    X, y = blobs()
    X_before, y_before = X.copy(), y.copy()
    X.flags.writeable = False
    OutlierGradientDetector(random_state=0).fit(X, y).transform(X)
    np.testing.assert_array_equal(X, X_before)
    np.testing.assert_array_equal(y, y_before)


def test_net_that_overwrites_its_input_leaves_the_users_rows_alone():
    class Overwriting(SmallMlp):
        def forward(self, X):
            return super().forward(X.mul_(2))

    X, y = blobs()
    before = X.copy()
    net = NeuralNetClassifier(Overwriting, criterion=nn.CrossEntropyLoss).initialize()
    expected = NeuralNetClassifier(SmallMlp, criterion=nn.CrossEntropyLoss).initialize()
    expected.module_.load_state_dict(net.module_.state_dict())
    found = per_sample_gradients(net, X, y, layers="all")
    np.testing.assert_array_equal(X, before)
    np.testing.assert_allclose(
        found, per_sample_gradients(expected, 2 * X, y, layers="all"), atol=1e-6
    )
