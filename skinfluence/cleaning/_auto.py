"""The folds by which "auto" compares shares."""

from collections.abc import Iterable
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    check_cv,
)

from skinfluence.rows._folds import checked_fold
from skinfluence.rows._targets import class_numbers, one_label_a_row

# By whether groups are to stay together, and whether classes suffice to be stratified.
_KINDS = {
    (False, False): KFold,
    (False, True): StratifiedKFold,
    (True, False): GroupKFold,
    (True, True): StratifiedGroupKFold,
}


class Folds(NamedTuple):
    """How rows are split and losses taken."""

    seed: int
    classifies: bool
    groups: Any = None

    def split(self, cv: Any, y: NDArray[Any]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Split rows into (training rows, held-out rows); see `DetrimentalSampleCleaner`."""
        folds = self._pairs(cv, y)
        n_held = sum(len(held) for _, held in folds)
        if n_held < 2:
            raise ValueError(
                f"The folds of cv hold out {n_held} row in all, but the standard error of the "
                "losses needs two. Hold out more rows."
            )
        if self.classifies and one_label_a_row(y):
            _check_two_classes(folds, y.reshape(-1))
        return folds

    def _pairs(self, cv: Any, y: NDArray[Any]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        if isinstance(cv, Integral):
            one_label = self.classifies and one_label_a_row(y)
            codes = class_numbers(y.reshape(len(y), -1)[:, 0], classifies=one_label)
            enough = one_label and np.bincount(codes).min() >= cv
            kind = _KINDS[self.groups is not None, bool(enough)]
            splitter = kind(cv, shuffle=True, random_state=self.seed)
            y = codes  # StratifiedKFold refuses numbers in an array of objects
        elif cv is None:
            raise ValueError(
                "Got cv=None, but contamination='auto' compares shares on held-out rows. Set cv to "
                "a number of folds, such as 3, or contamination to an amount."
            )
        elif hasattr(cv, "split") or isinstance(cv, str) or not isinstance(cv, Iterable):
            splitter = check_cv(cv)
        else:
            return [checked_fold(train, held, len(y)) for train, held in cv]
        return list(splitter.split(np.zeros((len(y), 1)), y, self._checked_groups(cv, len(y))))

    def _checked_groups(self, cv: Any, n_rows: int) -> NDArray[Any] | None:
        if self.groups is None:
            return None
        groups = np.asarray(self.groups)
        if groups.shape != (n_rows,):
            raise ValueError(
                f"Got groups of shape {groups.shape} for {n_rows} rows, but expected the group of "
                "every row, one-dimensional."
            )
        n_groups = len(np.unique(groups))
        if isinstance(cv, Integral) and n_groups < int(cv):
            raise ValueError(
                f"cv={cv} needs at least {cv} groups, but there are {n_groups}. Use fewer folds, "
                "or finer groups."
            )
        return groups

    def losses(self, predicted: Any, given: NDArray[Any]) -> NDArray[np.float64]:
        predicted = np.asarray(predicted).reshape(given.shape)
        losses = predicted != given if self.classifies else np.abs(predicted - given)
        return np.asarray(losses.reshape(len(given), -1).mean(1), dtype=np.float64)


def _check_two_classes(
    folds: list[tuple[NDArray[np.intp], NDArray[np.intp]]], y: NDArray[Any]
) -> None:
    """Refuse folds that would train on a single class, naming one that is left out."""
    names, codes = np.unique(y, return_inverse=True)
    for number, (rows, _) in enumerate(folds):
        counts = np.bincount(codes[rows], minlength=len(names))
        if len(names) < 2 or (counts > 0).sum() != 1:
            continue
        present = names.tolist()[counts.argmax()]
        missing = int(np.flatnonzero(counts == 0)[0])
        n_missing = int((codes == missing).sum())
        raise ValueError(
            f"Fold {number} of cv trains on rows of class {present!r} only: "
            f"class {names.tolist()[missing]!r} has {n_missing} of the {len(y)} rows, none of them "
            "among the training rows there. Stratify or shuffle the folds, give rows of the rare "
            "class, or set contamination to an amount in place of 'auto'."
        )
