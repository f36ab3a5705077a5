"""A callback that tells whoever listens how far a training is."""

from typing import Any

from skorch import NeuralNet
from skorch.callbacks import Callback

from skinfluence.rows._progress import tell


class EpochsTold(Callback):
    """Says how many epochs are done; what a training results in does not depend on it."""

    def on_train_begin(self, net: NeuralNet, *args: Any, **kwargs: Any) -> None:
        """Begin with the epochs of earlier calls; called by skorch."""
        self._first = len(net.history)
        tell(self, "epochs", 0, net.max_epochs)

    def on_epoch_end(self, net: NeuralNet, *args: Any, **kwargs: Any) -> None:
        """Count one more; called by skorch."""
        tell(self, "epochs", len(net.history) - self._first, net.max_epochs)

    def on_train_end(self, net: NeuralNet, *args: Any, **kwargs: Any) -> None:
        """Be done, also where a callback stopped the training early; called by skorch."""
        done = len(net.history) - self._first
        tell(self, "epochs", done, done)
