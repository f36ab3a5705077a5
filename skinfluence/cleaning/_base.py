"""Cleaning by a method: fit it, choose the amount, take the rows."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from skinfluence.cleaning._auto import Folds
from skinfluence.cleaning._clean_rows import Cleaned, Train, clean_rows
from skinfluence.cleaning._target_kind import check_kind, decided_kind
from skinfluence.methods._base import BaseDetrimentality
from skinfluence.nets._predictions import net_predictions
from skinfluence.nets._trained_net import TrainedNet, train_net
from skinfluence.rows._containers import is_table_or_images, select
from skinfluence.rows._parameters import check_parameter, check_positive_integer
from skinfluence.rows._seeds import seeded
from skinfluence.rows._targets import check_targets, class_numbers, known_task, one_label_a_row
from skinfluence.rows._worst_rows import (
    SHARES,
    AmountError,
    check_amount,
    fewest_within_one_error,
    shares_possible,
)
from skinfluence.trace._callbacks import number_folders, without_recorders


class Data(NamedTuple):
    """What the user gave to fit."""

    X: Any
    y: Any
    X_val: Any = None
    y_val: Any = None

    def part(self, rows: NDArray[np.intp]) -> "Data":
        """Take some training rows and all validation rows."""
        return self._replace(X=select(self.X, rows), y=select(self.y, rows))


def clean(
    cleaner: Any,
    data: Data,
    train: Train | None,
    seed: int,
    groups: Any = None,
    *,
    classifies: bool | None = None,
) -> Cleaned:
    """Fit a cleaner's method, choose the amount, clean, and set what was found.

    Parameters
    ----------
    cleaner : estimator
        With the parameters of `DetrimentalSampleCleaner`; gets its attributes.
    data : Data
    train : callable or None
        ``train(rows, y)`` gives a model with `predict`; for "auto" and to relabel.
    seed : int
        Of the folds.
    groups : array-like of shape (n_samples,), optional
        Whose rows stay together in the folds.
    classifies : bool, optional
        Whether targets are classes; by default the method, or else the targets, tell.

    Returns
    -------
    Cleaned

    Raises
    ------
    ValueError
        If a parameter is out of range, the method gives no one score, or its net is for targets
        of the other kind.
    """
    _check_parameters(cleaner)
    if data.y is None:
        check_targets(None, 0)  # says what is missing
    if classifies is not None:
        check_kind(type(cleaner).__name__, cleaner.method, classifies)
    for name in [name for name in vars(cleaner) if name.endswith("_")]:
        delattr(cleaner, name)  # of an earlier fit
    method = clone(cleaner.method)
    if cleaner.random_state is not None and method.get_params().get("random_state", 0) is None:
        method.set_params(random_state=seed)
    with known_task(classifies):
        fitted = clone(method).fit(*data)
    _take_over(cleaner, fitted)
    cleaner.n_trainings_ = 1

    def counted(rows: NDArray[np.intp], y: Any) -> Any:
        assert train is not None
        cleaner.n_trainings_ += 1
        return train(rows, y)

    targets = check_targets(data.y, len(np.asarray(data.y)))
    if classifies is None:
        classifies = decided_kind(fitted, targets)
    one_label = one_label_a_row(targets)
    rules = {"classifies": classifies and one_label, **_rules(cleaner)}
    amount = cleaner.contamination
    with known_task(classifies if one_label else None):  # parts of the rows must not tell otherwise
        if amount == "auto":
            folds = Folds(seed, classifies, groups)
            amount = _cross_validated_share(
                cleaner, method, data, counted, folds=folds, rules=rules
            )
        cleaned = clean_rows(fitted, data.X, data.y, amount, counted, **rules)
    cleaner.contamination_ = amount
    cleaner.sample_indices_, cleaner.removed_indices_ = cleaned.kept, cleaned.removed
    cleaner.relabelled_ = cleaned.relabelled
    return cleaned


def _take_over(cleaner: Any, fitted: Any) -> None:
    """Set what a cleaner has from its method."""
    if not hasattr(fitted, "ranking_"):
        raise ValueError(
            f"{type(fitted).__name__} gives several scores a row, but rows are taken by one. Set "
            "its aggregate to 'rank_mean' or 'vote', or pass a single method."
        )
    cleaner.method_ = fitted
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(fitted, name):
            setattr(cleaner, name, getattr(fitted, name))


def _cross_validated_share(
    cleaner: Any, method: Any, data: Data, train: Train, *, folds: Folds, rules: dict[str, Any]
) -> float:
    targets = check_targets(data.y, len(np.asarray(data.y)))
    groups = class_numbers(targets.reshape(len(targets), -1)[:, 0], classifies=rules["classifies"])
    least = {name: rules[name] for name in ("per_class", "keep_minimum")}
    shares = shares_possible(cleaner.method_.ranking_, groups, **least)
    parts = []
    for number, (rows, held) in enumerate(folds.split(cleaner.cv, targets)):
        # in a smaller part, a class has its share of the rows that must stay
        fewest = -(-cleaner.keep_minimum * len(rows) // len(targets))
        if np.bincount(groups[rows]).max() <= fewest:
            raise AmountError(
                f"In fold {number} of cv, of {len(rows)} training rows, none can go: no class has "
                f"more than its share of keep_minimum={cleaner.keep_minimum}, which is "
                f"{fewest} there. Use more folds, a lower keep_minimum, or set "
                "contamination to an amount."
            )
        part = data.part(rows)
        fitted = clone(method)
        number_folders(getattr(fitted, "net", None), number)
        fitted.fit(*part)
        cleaner.n_trainings_ += 1

        def train_part(chosen: NDArray[np.intp], y: Any, rows: NDArray[np.intp] = rows) -> Any:
            return train(rows[chosen], y)

        losses: list[NDArray[np.float64]] = []
        fewer = {**rules, "keep_minimum": fewest}
        for cleaned in _each_share(fitted, part, train_part, fewer):
            if cleaned is None:  # nothing new to train on
                losses.append(losses[-1])
                continue
            model = train_part(cleaned.kept, select(cleaned.y, cleaned.kept))
            losses.append(folds.losses(model.predict(select(data.X, held)), targets[held]))
        parts.append(losses)
    n_shares = min(len(shares), *(len(losses) for losses in parts))
    table = np.array([np.concatenate([losses[i] for losses in parts]) for i in range(n_shares)])
    cleaner.losses_ = dict(zip(SHARES, table.mean(1).tolist(), strict=False))
    return SHARES[fewest_within_one_error(table)]


def _each_share(
    method: Any, part: Data, train: Train, rules: dict[str, Any]
) -> Iterator[Cleaned | None]:
    """Clean by each share in turn, as far as classes allow; None if it is as the one before."""
    before: Cleaned | None = None
    for share in SHARES:
        try:
            cleaned = clean_rows(method, part.X, part.y, share, train, **rules)
        except AmountError:
            return
        yield None if before is not None and _same(before, cleaned) else cleaned
        before = cleaned


def _same(one: Cleaned, other: Cleaned) -> bool:
    """Tell whether the same model would be trained."""
    labels, others = (np.asarray(select(each.y, each.relabelled)) for each in (one, other))
    return (
        np.array_equal(one.kept, other.kept)
        and np.array_equal(one.relabelled, other.relabelled)
        and np.array_equal(labels, others)
    )


def check_trainable(estimator: Any) -> None:
    """Refuse a model that cannot be trained on the rows kept."""
    if isinstance(estimator, FrozenEstimator):
        raise ValueError(
            f"Got the frozen estimator {estimator!r}, which cannot be trained on the rows kept. "
            "Pass the estimator itself; it is cloned before it is trained."
        )


def trainer_of(cleaner: Any, X: Any, seed: int) -> Train:
    """Say how a cleaner trains models of its own: its estimator, or the method's net."""
    check_trainable(cleaner.estimator)
    net = getattr(cleaner.method, "net", None)
    if cleaner.estimator is None and isinstance(net, FrozenEstimator):
        raise ValueError(
            "contamination='auto' and action='relabel' train models on some of the rows, but the "
            "method's net is frozen. Give an unfitted model as estimator, or remove an amount."
        )

    def train(rows: NDArray[np.intp], y: Any) -> Any:
        X_part = select(X, rows)
        if cleaner.estimator is not None:
            with seeded(seed):
                return seeded_clone(cleaner.estimator, seed).fit(X_part, y)
        return _NetModel(train_net(without_recorders(net), _array(X_part), y, seed))

    return train


class _NetModel:
    """A trained net that takes and gives what the user does."""

    def __init__(self, trained: TrainedNet) -> None:
        self.trained = trained

    def predict(self, X: Any) -> NDArray[Any]:
        return net_predictions(self.trained, _array(X))


def _array(X: Any) -> Any:
    return np.asarray(X) if is_table_or_images(X) else X


def seeded_clone(estimator: Any, seed: int) -> Any:
    """Clone an estimator, with a seed wherever a `random_state` is None."""
    unset = {
        name: seed
        for name, value in estimator.get_params().items()
        if name.split("__")[-1] == "random_state" and value is None
    }
    return clone(estimator).set_params(**unset)


def cut(value: Any, rows: NDArray[np.intp], n_rows: int) -> Any:
    """Cut what has an entry for every row."""
    shape = (len(value),) if isinstance(value, list | tuple) else getattr(value, "shape", ())
    return select(value, rows) if tuple(shape[:1]) == (n_rows,) else value


def _rules(cleaner: Any) -> dict[str, Any]:
    return {name: getattr(cleaner, name) for name in ("action", "per_class", "keep_minimum")}


def _check_parameters(cleaner: Any) -> None:
    if not isinstance(cleaner.method, BaseDetrimentality):
        raise TypeError(
            f"Got method={cleaner.method!r}, but expected one of this package's methods, such as "
            "OutlierGradientDetector(); an outlier detector goes inside one, as its detector."
        )
    check_amount(cleaner.contamination)
    check_parameter(
        "action",
        cleaner.action,
        '"remove" or "relabel"',
        holds=lambda value: value in {"remove", "relabel"},
    )
    check_positive_integer("keep_minimum", cleaner.keep_minimum)
