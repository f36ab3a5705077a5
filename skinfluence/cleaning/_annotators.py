"""One label a row, of what several annotators said."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import get_tags
from sklearn.utils.validation import check_consistent_length, validate_data

from skinfluence.cleaning._dawid_skene import (
    Annotations,
    Consensus,
    dawid_skene,
    qualities,
    vote_shares,
)
from skinfluence.methods._told_fit import told_fit
from skinfluence.rows._containers import first_rows, n_samples_of, select
from skinfluence.rows._folds import check_cv, folds_of
from skinfluence.rows._interrupts import fit_whole
from skinfluence.rows._parameters import check_number, check_verbose
from skinfluence.rows._progress import told
from skinfluence.rows._saved import SavedWithVersion
from skinfluence.rows._seeds import draw_seeds, seeded, seeded_clone
from skinfluence.rows._targets import (
    check_class_labels,
    check_targets,
    classes_and_codes,
    is_missing,
)

_ROUNDS = 2
# So much of what a model says is spread over all classes: no class is impossible.
_DOUBT = 0.01


class AnnotatorConsensus(SavedWithVersion, BaseEstimator):
    """One label a row from several annotators, and how far each of them is to be trusted.

    It answers which label is right where annotators disagree, which rows are still in doubt, and
    whose labels to trust less. Annotators who are often wrong count less, and each kind of mistake
    of each annotator is learnt (Dawid and Skene 1979). With an estimator, what the inputs say of a
    row counts as well.

    Parameters
    ----------
    estimator : classifier or None, default=None
        A scikit-learn classifier with `predict_proba`, or a Pipeline, which says of each row what
        its class may be without having seen the row's labels. None goes by the labels alone.
    pooling : float, default=3.0
        The confusions of all annotators together count for so many labels a class in those of each,
        which keeps who gave few labels from being taken for an expert or for a fool. 0 is the
        method of Dawid and Skene.
    cv : int, splitter or list of folds, default=5
        How rows are held out of the estimator's training, which needs `X`.
    random_state : int, RandomState or None, default=None
        Seed of the folds and of the estimator. Global generators are neither used nor changed.
    verbose : int, default=0
        1 shows on stderr how far the fit is, and the time left. It does not change the result.

    Attributes
    ----------
    consensus_ : ndarray of shape (n_samples,)
        The likeliest label of each row.
    classes_ : ndarray of shape (n_classes,)
        The labels that occur, in order.
    probabilities_ : ndarray of shape (n_samples, n_classes)
        Probability of each class, float64, in the order of `classes_`.
    detrimentality_ : ndarray of shape (n_samples,)
        Probability that the consensus is wrong, float64, in [0, 1). Higher = more in doubt.
    annotation_detrimentality_ : ndarray of the shape of y
        Probability that this annotator's label of this row is wrong; NaN where there is none.
        Higher = more likely wrong.
    annotators_ : ndarray of shape (n_annotators,)
        Names of the annotators: columns of a data frame, what `annotators` holds, or numbers.
    n_labels_ : ndarray of shape (n_annotators,)
        How many labels each gave.
    quality_ : ndarray of shape (n_annotators,)
        Share of each annotator's labels that is expected to be right, in [0, 1].
    quality_interval_ : ndarray of shape (n_annotators, 2)
        Where that share lies with 95 %, if annotators err independently of each other; rounded
        outwards to whole labels.
    confusion_ : ndarray of shape (n_annotators, n_classes, n_classes)
        P(label given | true class) of each annotator; rows are true classes.

    See Also
    --------
    skinfluence.CleanedClassifier : A model without the rows that hurt it.

    Notes
    -----
    Probabilities take annotators' mistakes for independent given the class. On rows that are hard
    for all of them they are not, and probabilities are then too sure: take them for an order. On
    two sets with known truth, the mean probability was .90 and .94 where .78 and .80 of the labels
    were right, and .91 and .98 of the intervals held the truth. Where all annotators of a row make
    the same mistake, nothing here can tell: whoever gave few labels may then be far off.

    Cost: some dozens of passes over the labels; with an estimator, two times the folds of `cv`
    trainings.

    References
    ----------
    A. P. Dawid and A. M. Skene, "Maximum likelihood estimation of observer error-rates using the EM
    algorithm", Applied Statistics 28, 1979; sections 2 and 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skinfluence import AnnotatorConsensus
    >>> labels = np.array([
    ...     ["cat", "cat", "dog"],
    ...     ["dog", "dog", "cat"],
    ...     ["cat", "cat", None],
    ...     ["dog", None, "cat"],
    ... ])
    >>> consensus = AnnotatorConsensus().fit(None, labels)
    >>> consensus.consensus_.tolist()
    ['cat', 'dog', 'cat', 'dog']
    >>> int(consensus.quality_.argmin())  # the third annotator
    2
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        pooling: float = 3.0,
        cv: Any = 5,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.pooling = pooling
        self.cv = cv
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        if self.estimator is not None:
            tags.input_tags = get_tags(self.estimator).input_tags
        return tags

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        rows: ArrayLike | None = None,
        annotators: ArrayLike | None = None,
    ) -> Self:
        """Find the consensus of what annotators said of rows.

        Parameters
        ----------
        X : array-like, data frame or None
            Inputs of the rows, as the estimator takes them; None without one.
        y : array-like or data frame
            Labels of shape (n_samples, n_annotators), with NaN or None where an annotator gave
            none; or with `rows` and `annotators` one label an entry, (n_labels,).
        rows : array-like of shape (n_labels,), optional
            The number of the row of each label, from 0 on.
        annotators : array-like of shape (n_labels,), optional
            Who gave each label: any names.

        Returns
        -------
        AnnotatorConsensus
            Fitted.

        Raises
        ------
        ValueError
            If a row has no label, an annotator labels a row twice, a row's number lies outside of
            X, an estimator is set without X, or no row has two labels and no estimator is set.
        TypeError
            If the estimator has no `predict_proba`.
        """
        self._check_parameters(X)
        given = self._parse(X, y, rows, annotators)
        if X is not None:  # what it looks like is for the estimator to check
            validate_data(self, X, skip_check_array=True)
        probabilities = vote_shares(given)
        if _overlap(given):  # labels alone tell who errs
            found = dawid_skene(given, probabilities, pooling=self.pooling)
            probabilities = found.probabilities
        if self.estimator is not None:
            seed = draw_seeds(self.random_state, 1)[0]
            with told_fit(self):
                for _ in told("rounds", range(_ROUNDS)):
                    prior = self._predicted(X, probabilities, seed)
                    found = dawid_skene(given, probabilities, pooling=self.pooling, prior=prior)
                    probabilities = found.probabilities
        self._keep(given, found, y)
        return self

    def _check_parameters(self, X: Any) -> None:
        check_number("pooling", self.pooling, low=0)
        check_verbose(self.verbose)
        if self.cv is None:
            raise ValueError("Got cv=None, but expected folds; a number of them, for example.")
        check_cv(self.cv)
        if self.estimator is None:
            return
        if not hasattr(self.estimator, "predict_proba") or isinstance(self.estimator, type):
            raise TypeError(
                f"Got estimator={self.estimator!r}, but expected an instance of a classifier with "
                "predict_proba, or None."
            )
        if X is None:
            raise ValueError("Got X=None with an estimator, which is trained on X. Pass the rows.")

    def _parse(self, X: Any, y: Any, rows: Any, annotators: Any) -> Annotations:
        if y is None:
            check_targets(y, 0)  # raises what every estimator does
        if (rows is None) != (annotators is None):
            raise ValueError(
                "Got one of rows and annotators, but labels in one column need both; a matrix of "
                "labels, one column an annotator, needs neither."
            )
        if rows is None:
            places, labels, names = _of_matrix(y)
            numbers, codes = places
            n_rows = len(y)
        else:
            labels, numbers, names, codes = _of_entries(y, rows, annotators)
            n_rows = int(numbers.max()) + 1 if X is None else n_samples_of(X)
        if X is not None and rows is None:
            check_consistent_length(X, y)
        labels = check_class_labels(check_targets(labels, len(labels)))
        self.classes_, coded = classes_and_codes(labels)
        self.annotators_ = names
        given = Annotations(numbers, codes, coded, (n_rows, len(names), len(self.classes_)))
        _check_rows(given, names)
        if self.estimator is None and not _overlap(given):
            raise ValueError(
                "No row has labels of two annotators, so these cannot be held against each other. "
                "Set estimator, which judges labels by X."
            )
        return given

    def _predicted(self, X: Any, probabilities: np.ndarray, seed: int) -> NDArray[np.float64]:
        """Predict each row by an estimator that was trained on the consensus of other rows."""
        labels = probabilities.argmax(1)
        n_rows, n_classes = probabilities.shape
        found = np.zeros_like(probabilities)
        folds = folds_of(np.zeros(n_rows), cv=self.cv, seed=seed)
        for train, held in told("folds", folds):
            if len(np.unique(labels[train])) == 1:
                found[held, labels[train][0]] = 1
                continue
            with seeded(seed):
                model = seeded_clone(self.estimator, seed)
                fit_whole(model, select(X, train), labels[train])
                found[np.ix_(held, model.classes_)] = model.predict_proba(select(X, held))
        predicted: NDArray[np.float64] = (1 - _DOUBT) * found + _DOUBT / n_classes
        return predicted

    def _keep(self, given: Annotations, found: Consensus, y: Any) -> None:
        self.probabilities_ = found.probabilities
        self.confusion_ = found.confusions
        self.consensus_ = self.classes_[found.probabilities.argmax(1)]
        self.detrimentality_ = 1 - found.probabilities.max(1)
        self.n_labels_ = np.bincount(given.annotators, minlength=len(self.annotators_))
        self.quality_, self.quality_interval_ = qualities(given, found)
        wrong = 1 - found.probabilities[given.rows, given.labels]
        shape = np.shape(y)
        if len(shape) == 1:
            self.annotation_detrimentality_ = wrong
        else:
            self.annotation_detrimentality_ = np.full(shape, np.nan)
            self.annotation_detrimentality_[given.rows, given.annotators] = wrong


def _overlap(given: Annotations) -> bool:
    """Tell whether any row has labels of two annotators."""
    return len(given.rows) > given.shape[0]


def _of_matrix(y: Any) -> tuple[Any, np.ndarray, np.ndarray]:
    """Give where a matrix holds labels, these, and the names of its columns."""
    names = np.asarray(y.columns) if hasattr(y, "columns") else None
    table = np.asarray(y)
    if np.ma.isMaskedArray(y):
        table = table.astype(object)
        table[np.ma.getmaskarray(y)] = None
    if table.ndim == 1:
        table = table[:, np.newaxis]
    if table.ndim != 2 or not table.size:
        raise ValueError(
            f"Got y of shape {table.shape}, but expected labels of shape (n_samples, "
            "n_annotators), or one label an entry with rows and annotators."
        )
    there = ~np.vectorize(is_missing, otypes=[bool])(table)
    labels = table[there]
    names = np.arange(table.shape[1]) if names is None else names
    _check_gave_labels(there.any(0), names)
    return np.nonzero(there), labels, names


def _of_entries(y: Any, rows: Any, annotators: Any) -> tuple[np.ndarray, ...]:
    """Give labels, the rows' numbers, the annotators' names and their codes."""
    check_consistent_length(y, rows, annotators)
    labels, numbers = check_targets(y, n_samples_of(y)), np.asarray(rows)
    if labels.ndim != 1:
        raise ValueError(f"Got y of shape {labels.shape}, but expected one label an entry.")
    if numbers.dtype.kind not in "iu" or numbers.min() < 0:
        raise ValueError(
            "Got rows that are no numbers of rows, but expected integers from 0 on. "
            "pandas.factorize makes them of names."
        )
    names, codes = classes_and_codes(np.asarray(annotators))
    return labels, numbers.astype(np.intp), names, codes


def _check_gave_labels(gave: np.ndarray, names: np.ndarray) -> None:
    if not gave.all():
        raise ValueError(
            f"Annotator {names[~gave].tolist()[0]!r} gave no label. Drop columns without labels."
        )


def _check_rows(given: Annotations, names: np.ndarray) -> None:
    """Refuse rows that are not there, rows without a label, and two labels of one annotator."""
    n_rows, n_annotators, _ = given.shape
    if given.rows.max() >= n_rows:
        raise ValueError(f"Got row number {given.rows.max()}, but X has {n_rows} rows.")
    bare = np.flatnonzero(np.bincount(given.rows, minlength=n_rows) == 0)
    if len(bare):
        raise ValueError(
            f"{len(bare)} rows have no label ({first_rows(bare)}). Drop them, or predict them by a "
            "model that is trained on the others."
        )
    pairs, counts = np.unique(given.rows * n_annotators + given.annotators, return_counts=True)
    if (counts > 1).any():
        row, who = divmod(int(pairs[counts > 1][0]), n_annotators)
        raise ValueError(
            f"Annotator {names.tolist()[who]!r} labels row {row} {counts.max()} times, but a label "
            "counts as independent of the others. Keep one."
        )
