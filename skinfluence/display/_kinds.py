"""What kind of fault a row has, by plain grounds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# So many of the nearest rows have a say; most of them is more than a half.
N_NEAR = 5
# A row stands alone if its nearest row is farther away than that of this share of rows.
_ALONE = 0.9


@dataclass(frozen=True)
class Fault:
    """The kind of fault of a row, and what speaks for it.

    Attributes
    ----------
    kind : {"wrong label", "rare", "ambiguous"} or None
        None where there are no grounds for any of them.
    given, other : float
        The probability of the label given, and of the likeliest other one, by models that were not
        trained on the row.
    other_label : object
        The likeliest other label.
    near_given, near_other : int
        How many of the five nearest rows are given these labels.
    stands_alone : bool
        Whether the nearest row is farther away than that of nine rows in ten.
    """

    kind: str | None
    given: float
    other: float
    other_label: object
    near_given: int
    near_other: int
    stands_alone: bool


def stands_alone(distances: NDArray[np.float64], closest: NDArray[np.float64]) -> bool:
    """Tell by a row's distances to the others, and `closest_distances`, if nothing is near it."""
    return bool(len(closest)) and bool((closest < distances.min()).mean() >= _ALONE)


def fault_of(
    probabilities: NDArray[np.float64],  # (n_classes,), by what was not trained on the row
    classes: np.ndarray,
    code: int,  # of the label given
    near: np.ndarray,  # labels of the nearest rows
    alone: bool,
    *,
    transitions: NDArray[np.float64] | None = None,  # how labels go wrong, where that is known
) -> Fault:
    """Name the kind of fault of a row; see `explain`."""
    others = probabilities.copy()
    others[code] = -np.inf
    rival = int(others.argmax())
    given, other = float(probabilities[code]), float(probabilities[rival])
    near_given, near_other = (int((near == classes[c]).sum()) for c in (code, rival))
    is_split = min(given, other) >= max(given, other) / 2
    are_split = other > given and bool(near_given) and bool(near_other)
    is_other = other
    if transitions is not None:  # right labels are more frequent: the other one must outweigh that
        joint = probabilities * transitions[:, code]
        is_other = float(joint[rival] / joint.sum())
    kind = None
    if is_other > 0.5 and near_other > len(near) / 2:
        kind = "wrong label"
    elif alone:
        kind = "rare"
    elif is_split or are_split:
        kind = "ambiguous"
    label: object = classes[rival : rival + 1].tolist()[0]
    return Fault(kind, given, other, label, near_given, near_other, alone)
