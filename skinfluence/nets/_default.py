"""Neural nets that need no torch code: a perceptron for tables and a small CNN for images."""

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.utils.multiclass import type_of_target
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from skorch.dataset import Dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader

from skinfluence.rows._containers import center_and_scale, check_is_dense
from skinfluence.rows._parameters import check_choice
from skinfluence.rows._seeds import seeded
from skinfluence.rows._targets import (
    TASKS,
    are_numbers,
    check_numbers,
    check_targets,
    classes_and_codes,
    warn_of_many_classes,
)
from skinfluence.rows._words import holds_words, principal_components, rows_of_length_one

_BATCH_SIZE = 64
# Small sets get more epochs, so that every net takes about this many steps.
_STEPS = 1500
_MIN_EPOCHS, _MAX_EPOCHS = 40, 200
# Nets see words by so many principal components.
_MOST_COMPONENTS = 64


class _OfColumns:
    """A number for every column, of which a net's repr shows only how many there are."""

    def __init__(self, values: ArrayLike) -> None:
        self.values = np.asarray(values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        return f"<{self.values.size} numbers>"


class _StandardizedModule(nn.Module):
    """A net on inputs that are standardised; subclasses say what lies before the output layer."""

    # A column such as a time in seconds has its digits where single precision has none left: it
    # is centred before it is rounded, and inputs reach the module in the precision they came in.
    takes_doubles = True
    # of the inputs, (n_features,) or (n_channels,), and of the targets, (n_outputs,)
    center: Tensor
    scale: Tensor
    output_center: Tensor
    output_scale: Tensor

    def __init__(
        self,
        *,
        center: ArrayLike,
        scale: ArrayLike,
        n_outputs: int,
        n_hidden: int = 64,
        output_center: ArrayLike = 0.0,
        output_scale: ArrayLike = 1.0,
        random_state: int | None = None,
    ) -> None:
        super().__init__()
        statistics = {
            "center": (center, torch.float64),
            "scale": (scale, torch.float64),
            "output_center": (output_center, torch.float32),
            "output_scale": (output_scale, torch.float32),
        }
        for name, (value, dtype) in statistics.items():
            self.register_buffer(name, torch.as_tensor(np.asarray(value), dtype=dtype))
        with nullcontext() if random_state is None else seeded(random_state):
            self.hidden = self._hidden_layers(np.size(center), n_hidden)
            self.output = nn.Linear(n_hidden, n_outputs)

    @staticmethod
    def _hidden_layers(n_inputs: int, n_hidden: int) -> nn.Module:
        raise NotImplementedError

    def forward(self, X: Tensor) -> Tensor:
        """Map rows to logits, or to predictions of a numeric target: (n_rows, n_outputs)."""
        per_channel = (-1, *(1 for _ in X.shape[2:]))
        standardized = (X - self.center.view(per_channel)) / self.scale.view(per_channel)
        standardized = standardized.to(self.output.weight.dtype)
        outputs: Tensor = self.output(self.hidden(standardized))
        return self.output_center + self.output_scale * outputs


class TablePerceptron(_StandardizedModule):
    """A perceptron with two hidden layers on standardised features; see `default_net`."""

    @staticmethod
    def _hidden_layers(n_inputs: int, n_hidden: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(n_inputs, n_hidden),
            nn.ReLU(),
            nn.Linear(n_hidden, n_hidden),
            nn.ReLU(),
        )


class ImageCNN(_StandardizedModule):
    """Two convolutions and a hidden layer on standardised channels; see `default_net`."""

    @staticmethod
    def _hidden_layers(n_inputs: int, n_hidden: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(n_inputs, n_hidden // 2, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(n_hidden // 2, n_hidden, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(16 * n_hidden, n_hidden),
            nn.ReLU(),
        )


class SeededLoader(DataLoader[Any]):
    """A shuffling data loader with a generator of its own, unless there is no seed."""

    def __init__(self, dataset: Any, batch_size: int, random_state: int | None = None) -> None:
        generator = None
        if random_state is not None:
            generator = torch.Generator()
            generator.manual_seed(random_state)
        super().__init__(dataset, batch_size=batch_size, shuffle=True, generator=generator)


def default_net(
    X: ArrayLike, y: ArrayLike, *, random_state: int | None = None, task: str | None = None
) -> NeuralNet:
    """Make an unfitted skorch net that suits the data and the kind of target.

    It trains on all rows, shuffled, with Adam; its inputs are standardised by what `X` says.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, n_channels, height, width)
        A table gets a perceptron (64-64), images a small convolutional net. A table may be a sparse
        matrix; the net takes its rows batch by batch. Of a table of words or counts, dense or
        sparse (a hundred columns or more, fewer than one entry in twenty not zero), the net sees at
        most 64 principal components of rows of length one: it puts rows so itself, by its `dataset`
        and `dataset__components`.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Classes get cross-entropy, a numeric target squared error, and a two-dimensional
        indicator of labels binary cross-entropy. Floats with a fraction, or with more than 20
        distinct values, are a numeric target. The net itself takes classes as 0, 1, 2, ...;
        estimators of this package encode labels of any kind before they train it.
    random_state : int, optional
        Seed of the initial weights and of the order of the rows.
    task : {"classification", "regression"}, optional
        What the targets are, whatever their values say.

    Returns
    -------
    NeuralNetClassifier, NeuralNetRegressor or NeuralNet

    Raises
    ------
    TypeError
        If `X` is a sparse frame or tensor.
    ValueError
        If `X` is neither a table nor images, `y` is neither classes nor numbers, or `task` is
        another word.

    Examples
    --------
    >>> import numpy as np
    >>> from skinfluence.nets import default_net
    >>> X, y = np.zeros((10, 3), dtype="float32"), np.arange(10) % 2
    >>> type(default_net(X, y)).__name__
    'NeuralNetClassifier'
    >>> type(default_net(X, np.linspace(0, 1, 10))).__name__
    'NeuralNetRegressor'
    """
    check_choice("task", task, TASKS)
    inputs: Any = X
    if not issparse(inputs):
        check_is_dense(inputs)
        inputs = np.asarray(inputs)
    y = check_targets(y, inputs.shape[0])
    if task is None and not are_numbers(y, None):
        warn_of_many_classes(y)
    check_shape(inputs)
    module = {2: TablePerceptron, 4: ImageCNN}[inputs.ndim]
    net_class, criterion, n_outputs, center, scale = target_traits(y, task)
    steps = -(-inputs.shape[0] // _BATCH_SIZE)
    dataset: dict[str, Any] = {}
    if inputs.ndim == 2 and holds_words(inputs):
        words = rows_of_length_one(inputs)
        found = principal_components(words, _MOST_COMPONENTS, random_state)
        components = found.components_.T.copy()
        dataset = {"dataset": in_components, "dataset__components": components}
        inputs = words @ components
    center_of_X, scale_of_X = center_and_scale(inputs, (0, *range(2, inputs.ndim)))
    return net_class(
        module,
        **dataset,
        module__center=_OfColumns(center_of_X),
        module__scale=_OfColumns(scale_of_X),
        module__n_outputs=n_outputs,
        module__output_center=center,
        module__output_scale=scale,
        module__random_state=random_state,
        criterion=criterion,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=_BATCH_SIZE,
        max_epochs=int(np.clip(-(-_STEPS // steps), _MIN_EPOCHS, _MAX_EPOCHS)),
        iterator_train=SeededLoader,
        iterator_train__random_state=random_state,
        train_split=None,
        verbose=0,
    )


def in_components(X: Any, y: Any, components: np.ndarray) -> Dataset:
    """Put rows of words as a net takes them: of length one, by (n_features, n_components)."""
    return Dataset(np.asarray(rows_of_length_one(X) @ components, dtype=np.float32), y)


def check_shape(X: Any) -> None:
    """Refuse what is neither a table nor images."""
    if X.ndim not in {2, 4}:
        raise ValueError(
            f"Got X of shape {X.shape}; the default net takes tables (n_samples, n_features) and "
            "images (n_samples, n_channels, height, width). Give single-channel images a channel "
            "axis, X[:, None], or pass a net of your own."
        )


def sgd_net(
    X: ArrayLike, y: ArrayLike, *, random_state: int | None = None, task: str | None = None
) -> NeuralNet:
    """Make the default net with SGD as its optimiser, for methods whose theory is of SGD.

    Parameters
    ----------
    X, y, random_state, task
        As for `default_net`.

    Returns
    -------
    NeuralNet
        Unfitted; SGD with momentum 0.9 at a learning rate of 0.02, in units of the targets'
        variance for a regression.
    """
    net = default_net(X, y, random_state=random_state, task=task)
    # a squared error grows with the square of the targets' scale, and with it SGD's steps
    scale = np.asarray(net.get_params()["module__output_scale"], dtype=np.float64)
    rate = 0.02 / float(np.max(scale) ** 2)
    return net.set_params(optimizer=torch.optim.SGD, optimizer__momentum=0.9, lr=rate)


def target_traits(
    y: np.ndarray, task: str | None
) -> tuple[type[NeuralNet], type[nn.Module], int, ArrayLike, ArrayLike]:
    """Net class, criterion, number of outputs, and the outputs' standardisation."""
    if are_numbers(y, task):
        columns = check_numbers(y).reshape(len(y), -1).astype(np.float64)
        center, scale = map(_OfColumns, center_and_scale(columns))
        return NeuralNetRegressor, nn.MSELoss, columns.shape[1], center, scale
    if y.ndim == 1 or y.shape[1:] == (1,):
        return NeuralNetClassifier, nn.CrossEntropyLoss, len(classes_and_codes(y)[0]), 0.0, 1.0
    if type_of_target(y) == "multilabel-indicator":
        return NeuralNet, nn.BCEWithLogitsLoss, y.shape[1], 0.0, 1.0
    raise ValueError(
        f"Got y of shape {y.shape} and dtype {y.dtype}; the default net takes classes or numbers "
        "of shape (n_samples,), numbers (n_samples, n_outputs), or a 0/1 indicator of labels. "
        "Pass a net of your own for anything else."
    )
