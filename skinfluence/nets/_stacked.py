"""Many small perceptrons trained at once as one net, each on a half of the rows."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.dataset import Dataset
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from skinfluence.nets._training import fit_net
from skinfluence.rows._seeds import seeded
from skinfluence.rows._threads import one_thread
from skinfluence.trace._needs import TraceNeeds
from skinfluence.trace._recorder import recorder_for
from skinfluence.trace._training_trace import Checkpoint, TrainingTrace

# So many steps show which labels are easy to learn; more of them learn wrong ones by heart.
_STEPS = 400
_BATCH_SIZE = 128
_MIN_EPOCHS, _MAX_EPOCHS = 5, 200
_MEMBERS = 8
# Rows that are put through the net at once.
_CHUNK = 4096


class StackedPerceptrons(nn.Module):
    """Perceptrons with two hidden layers, side by side: one batched product a layer."""

    def __init__(
        self,
        *,
        n_inputs: int,
        n_outputs: int,
        n_members: int,
        n_hidden: int = 64,
        dropout: float = 0.3,
        random_state: int = 0,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        widths = [n_inputs, n_hidden, n_hidden, n_outputs]
        shapes = list(pairwise(widths))
        with seeded(random_state):
            gains = [2.0, 2.0, 0.5]  # outputs begin near zero, where all classes are as likely
            self.weights = nn.ParameterList(
                torch.randn(n_members, n_in, n_out) * (gain / n_in) ** 0.5
                for (n_in, n_out), gain in zip(shapes, gains, strict=True)
            )
        self.biases = nn.ParameterList(torch.zeros(n_members, 1, n_out) for _, n_out in shapes)

    def forward(self, X: Tensor, trains: Tensor) -> tuple[Tensor, Tensor]:
        """Give every member's outputs, (n_rows, n_members, n_outputs), and who trains on a row."""
        hidden = X.expand(len(self.biases[0]), *X.shape)
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if number:
                hidden = F.dropout(F.relu(hidden), self.dropout, self.training)
            hidden = torch.baddbmm(bias, hidden, weight)
        return hidden.transpose(0, 1), trains


class MemberLoss(nn.Module):
    """The mean loss of each member over the rows it trains on, added up over members."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, predicted: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
        """Compare outputs, (n_rows, n_members, n_outputs), with the targets of the rows."""
        outputs, trains = predicted
        n_members = outputs.shape[1]
        if self.kind == "classes":
            repeated = y.unsqueeze(1).expand(-1, n_members)
            losses = F.cross_entropy(outputs.transpose(1, 2), repeated, reduction="none")
        else:
            repeated = y.unsqueeze(1).expand_as(outputs)
            loss = F.mse_loss if self.kind == "numbers" else F.binary_cross_entropy_with_logits
            losses = loss(outputs, repeated, reduction="none").mean(2)
        return ((losses * trains).sum(0) / trains.sum(0).clamp(min=1)).sum()


class BatchLoader(DataLoader[Any]):
    """Shuffles rows and reads a whole batch at once, which arrays can give."""

    def __init__(self, dataset: Dataset, batch_size: int, random_state: int = 0) -> None:
        generator = torch.Generator()
        generator.manual_seed(random_state)
        rows = RandomSampler(dataset, generator=generator)
        super().__init__(dataset, sampler=BatchSampler(rows, batch_size, False), batch_size=None)


class PerceptronCommittee:
    """Trained perceptrons, and what those that did not see a row say of it."""

    def __init__(self, net: NeuralNet, trace: TrainingTrace, kind: str, trains: np.ndarray) -> None:
        self.net = net
        self.trace = trace
        self.kind = kind
        self.trains = trains

    @classmethod
    def fit(
        cls,
        X: np.ndarray,
        targets: np.ndarray,
        kind: str,
        *,
        checkpoints: int | str,
        seed: int,
        weights: NDArray[np.float64] | None = None,
    ) -> "PerceptronCommittee":
        """Train on inputs in single precision, (n_samples, n_inputs), and coded targets."""
        n_outputs = int(targets.max()) + 1 if kind == "classes" else targets.shape[1]
        net = NeuralNet(
            StackedPerceptrons,
            criterion=MemberLoss,
            criterion__kind=kind,
            module__n_inputs=X.shape[1],
            module__n_outputs=n_outputs,
            module__n_members=_MEMBERS,
            module__random_state=seed,
            optimizer=torch.optim.Adam,
            lr=4e-3,
            batch_size=_BATCH_SIZE,
            max_epochs=int(np.clip(_STEPS * _BATCH_SIZE // len(X), _MIN_EPOCHS, _MAX_EPOCHS)),
            iterator_train=BatchLoader,
            iterator_train__random_state=seed,
            train_split=None,
            verbose=0,
        )
        trains = _halves(len(X), _MEMBERS, seed)
        recorder = recorder_for(TraceNeeds(frozenset({checkpoints})))
        with one_thread():
            weighted = trains
            if weights is not None:
                weighted = trains * weights[:, np.newaxis].astype(np.float32)
            fit_net(net, {"X": X, "trains": weighted}, targets, seed, recorder)
        return cls(net, recorder.trace_, kind, trains)

    def out_of_bag(self, X: np.ndarray) -> NDArray[np.float64]:
        """Average over the training what those say of a training row that do not train on it."""
        return self._mean(X, 1 - self.trains)

    def along_training(self, X: np.ndarray, some: NDArray[np.intp]) -> NDArray[np.float64]:
        """Give what `out_of_bag` averages, of some rows: (n_checkpoints, n_rows, n_outputs)."""
        judges = 1 - self.trains[some]
        return np.stack([self._mean(X, judges, [point]) for point in self.trace.checkpoints])

    def predict(self, X: np.ndarray) -> NDArray[np.float64]:
        """Average over the training what all say of other rows: (n_rows, n_outputs)."""
        return self._mean(X, np.ones((len(X), self.trains.shape[1]), dtype=np.float32))

    def _mean(
        self, X: np.ndarray, judges: np.ndarray, points: Sequence[Checkpoint] | None = None
    ) -> NDArray[np.float64]:
        points = self.trace.checkpoints if points is None else points
        squash = {"classes": lambda z: z.softmax(-1), "labels": torch.sigmoid}.get(self.kind)
        module, parts = self.net.module_, []
        was_training = module.training
        module.eval()
        try:
            with one_thread(), torch.no_grad():
                for first in range(0, len(X), _CHUNK):
                    rows = torch.from_numpy(X[first : first + _CHUNK])
                    weights = torch.from_numpy(judges[first : first + _CHUNK])
                    total = torch.zeros(())
                    for checkpoint in points:
                        state = checkpoint.state
                        outputs, _ = functional_call(module, state, (rows, weights))
                        outputs = outputs if squash is None else squash(outputs)
                        total = total + (outputs * weights.unsqueeze(2)).sum(1).double()
                    n_judges = weights.sum(1, keepdim=True) * len(points)
                    parts.append((total / n_judges).numpy())
        finally:
            module.train(was_training)
        return np.concatenate(parts)


def _halves(n_rows: int, n_members: int, seed: int) -> NDArray[np.float32]:
    """Draw the half of the rows that each member trains on, every second one the others."""
    generator = np.random.default_rng(seed)
    trains = np.zeros((n_rows, n_members), dtype=np.float32)
    for member in range(0, n_members, 2):
        trains[generator.permutation(n_rows)[: n_rows // 2], member] = 1
        trains[:, member + 1] = 1 - trains[:, member]
    return trains
