"""Which epochs k evenly spaced checkpoints are: the one rule by which they are kept and read."""

from collections.abc import Sequence


def places(n_epochs: int, checkpoints: int | str) -> list[float]:
    """Divide a training into equal parts and give their ends, in epochs, which may be broken."""
    count = {"last": 1, "all": n_epochs}.get(str(checkpoints), checkpoints)
    count = min(int(count), n_epochs)
    return [n_epochs * (i + 1) / count for i in range(count)]


def planned_epochs(n_epochs: int, checkpoints: int | str) -> list[int]:
    """List the epochs, counted from 1, after which to keep a checkpoint."""
    return [round(place) for place in places(n_epochs, checkpoints)]


def nearest(epochs: Sequence[int], place: float) -> int:
    """Find which of ascending epochs is the planned one, or else nearest to a place; its index."""
    planned = round(place)  # where two are as near, the one that a recorder would keep
    if planned in epochs:
        return epochs.index(planned)
    return min(range(len(epochs)), key=lambda i: abs(epochs[i] - place))
