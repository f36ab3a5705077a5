"""How many rows to treat, as are known to be wrong or by cross-validation: "auto"."""

from collections.abc import Callable, Iterable, Iterator
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    check_cv,
)

from skinfluence.cleaning._clean_rows import Cleaned, Data, Model, Rules, Train, clean_rows
from skinfluence.exceptions import AmountError
from skinfluence.rows._containers import select
from skinfluence.rows._folds import Fold, checked_fold
from skinfluence.rows._progress import told
from skinfluence.rows._rows import Rows
from skinfluence.rows._seeds import preserved_random_state
from skinfluence.rows._targets import classes_and_codes, one_label_a_row
from skinfluence.rows._worst_rows import worst_rows

# The shares that are compared; none at all is one of them.
SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4)

# By whether groups are to stay together, and whether classes suffice to be stratified.
_KINDS = {
    (False, False): KFold,
    (False, True): StratifiedKFold,
    (True, False): GroupKFold,
    (True, True): StratifiedGroupKFold,
}


class Folds(NamedTuple):
    """How rows are split and losses taken."""

    cv: Any
    seed: int
    classifies: bool
    groups: Any = None  # whose rows stay together, (n_samples,)

    def split(self, y: np.ndarray) -> list[Fold]:
        """Split rows into (training rows, held-out rows); see `DetrimentalSampleCleaner`."""
        folds = self._pairs(self.cv, y)
        n_held = sum(len(held) for _, held in folds)
        if n_held < 2:
            raise ValueError(
                f"The folds of cv hold out {n_held} row in all, but the standard error of the "
                "losses needs two. Hold out more rows."
            )
        if self.classifies and one_label_a_row(y):
            _check_two_classes(folds, y.reshape(-1))
            if not isinstance(self.cv, Integral):
                _check_known_classes(folds, y.reshape(-1))
        return folds

    def _pairs(self, cv: Any, y: np.ndarray) -> list[Fold]:
        if isinstance(cv, Integral):
            one_label = self.classifies and one_label_a_row(y)
            _, codes = classes_and_codes(y.reshape(-1) if one_label else np.zeros(len(y)))
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

    def _checked_groups(self, cv: Any, n_rows: int) -> np.ndarray | None:
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

    def losses(self, predicted: ArrayLike, given: np.ndarray) -> NDArray[np.float64]:
        """Take every row's loss: wrong or right for classes, else the mean absolute error."""
        predicted = np.asarray(predicted).reshape(given.shape)
        losses = predicted != given if self.classifies else np.abs(predicted - given)
        return np.asarray(losses.reshape(len(given), -1).mean(1), dtype=np.float64)


def _check_two_classes(folds: list[Fold], y: np.ndarray) -> None:
    """Refuse folds that would train on a single class, naming one that is left out."""
    names, codes = classes_and_codes(y)
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


def _check_known_classes(folds: list[Fold], y: np.ndarray) -> None:
    """Refuse folds that hold out mostly rows of classes they do not train on, naming one."""
    # such a row is predicted wrongly whatever is removed, so that it tells nothing of the shares
    names, codes = classes_and_codes(y)
    for number, (train, held) in enumerate(folds):
        is_lost = ~np.isin(codes[held], codes[train])
        if is_lost.mean() <= 0.5:
            continue
        missing = np.bincount(codes[held][is_lost]).argmax()
        raise ValueError(
            f"Fold {number} of cv trains on no row of class {names.tolist()[missing]!r}: of the "
            f"{len(held)} rows it holds out, {is_lost.sum()} are of classes that no model there "
            "can predict. Use StratifiedKFold, or shuffle: KFold takes rows in order, and these "
            "may be sorted by class; or set contamination to an amount."
        )


def known_number(method: Any, ranking: NDArray[np.intp], rules: Rules) -> int | None:
    """Count the rows to treat by a fitted method that knows how many labels are wrong, or None."""
    errors = getattr(method, "label_errors_", None) if rules.classifies else None
    if errors is None or not errors.is_known or rules.per_class:
        return None
    number = round(errors.expected)
    return number if number < len(ranking) - rules.keep_minimum * len(errors.transitions) else None


def losses_of_shares(
    fit: Callable[[int, Rows], Any],
    ranking: NDArray[np.intp],
    data: Data,
    train: Train,
    *,
    folds: Folds,
    rules: Rules,
) -> NDArray[np.float64]:
    """Train without each share of the rows; losses of all held-out rows, (n_shares, n_held)."""
    # fit(number, rows): the method, fitted on the training rows of the fold of that number
    targets = data.rows.targets
    assert targets is not None
    _, groups = classes_and_codes(data.rows.strata(rules.classifies))
    n_possible = _n_possible(ranking, groups, rules)
    parts = []
    for number, (rows, held) in enumerate(told("folds", folds.split(targets))):
        # in a smaller part, a class has its share of the rows that must stay
        fewest = -(-rules.keep_minimum * len(rows) // len(targets))
        if np.bincount(groups[rows]).max() <= fewest:
            raise AmountError(
                f"In fold {number} of cv, of {len(rows)} training rows, none can go: no class has "
                f"more than its share of keep_minimum={rules.keep_minimum}, which is "
                f"{fewest} there. Use more folds, a lower keep_minimum, or set "
                "contamination to an amount."
            )
        part = data.part(rows)
        fitted = fit(number, part.rows)

        def train_part(chosen: NDArray[np.intp], y: Any, rows: NDArray[np.intp] = rows) -> Model:
            return train(rows[chosen], y)

        losses: list[NDArray[np.float64]] = []
        shares = _each_share(fitted, part, train_part, rules._replace(keep_minimum=fewest))
        for cleaned in told("shares", shares, len(SHARES)):
            if cleaned is None:  # nothing new to train on
                losses.append(losses[-1])
                continue
            model = train_part(cleaned.kept, select(cleaned.y, cleaned.kept))
            with preserved_random_state():  # a net's loader draws when it predicts
                predicted = model.predict(select(data.X, held))
            losses.append(folds.losses(predicted, targets[held]))
        parts.append(losses)
    n_shares = min(n_possible, *(len(losses) for losses in parts))
    return np.array([np.concatenate([losses[i] for losses in parts]) for i in range(n_shares)])


def fewest_within_one_error(losses: NDArray[np.float64]) -> int:
    """Choose the smallest share whose loss cannot be told from the lowest; (n_shares, n_held)."""
    # the first whose mean exceeds the lowest by no more than one standard error of the difference,
    # taken over the rows: all shares are judged by the same ones
    best = int(losses.mean(1).argmin())
    excess = losses - losses[best]
    error = excess.std(1, ddof=1) / np.sqrt(losses.shape[1])
    return int(np.flatnonzero(excess.mean(1) <= error)[0])


def _n_possible(ranking: NDArray[np.intp], groups: NDArray[np.intp], rules: Rules) -> int:
    """Count the shares, from none on, that classes can spare."""
    n_possible = 0
    for share in SHARES:
        try:
            worst_rows(
                ranking,
                groups,
                share,
                per_class=rules.per_class,
                keep_minimum=rules.keep_minimum,
            )
        except AmountError:
            break
        n_possible += 1
    sizes = np.bincount(groups)
    if sizes.max() <= rules.keep_minimum:
        raise AmountError(
            "contamination='auto' compares shares of rows that go, but keep_minimum="
            f"{rules.keep_minimum} and no class has more than {sizes.max()} rows (a regression is "
            "one class), so none can go. Lower keep_minimum, or set contamination=0."
        )
    return n_possible


def _each_share(method: Any, part: Data, train: Train, rules: Rules) -> Iterator[Cleaned | None]:
    """Clean by each share in turn, as far as classes allow; None if it is as the one before."""
    before: Cleaned | None = None
    for share in SHARES:
        try:
            cleaned = clean_rows(method, part, share, train, rules)
        except AmountError:
            return
        yield None if before is not None and _same(before, cleaned) else cleaned
        before = cleaned


def _same(one: Cleaned, other: Cleaned) -> bool:
    """Tell whether the same model would be trained."""
    same_kept = np.array_equal(one.kept, other.kept)
    if not same_kept or not np.array_equal(one.relabelled, other.relabelled):
        return False
    if not len(one.relabelled):  # of which a view of a data set makes no array
        return True
    labels, others = (np.asarray(select(each.y, each.relabelled)) for each in (one, other))
    return np.array_equal(labels, others)
