"""The complexity gap: which labels make the data harder to explain, without training."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinfluence.exceptions import ApproximationWarning
from skinfluence.methods._base import BaseDetrimentality
from skinfluence.rows._containers import check_finite
from skinfluence.rows._folds import split_rows
from skinfluence.rows._parameters import (
    check_choice,
    check_number,
    check_parameter,
    check_positive_integer,
)
from skinfluence.rows._progress import told
from skinfluence.rows._rows import ModelRows, Rows
from skinfluence.rows._seeds import own_random_state
from skinfluence.rows._weights import Weights
from skinfluence.valuation._kernel_gap import (
    Gaps,
    Solution,
    Table,
    gaps,
    low_rank_bytes,
    ntk,
    solve_exact,
    solve_low_rank,
    unit_rows,
)
from skinfluence.valuation._rows import check_features, coded_rows, feature_map


class ComplexityGap(BaseDetrimentality):
    """Score training rows by how much less complex the data are without them, training nothing.

    Answers: is this row mislabelled or atypical? The complexity ``y' H^-1 y`` of labels y under
    the kernel H of an infinitely wide two-layer net bounds how well such a net generalises and
    how far it must move; the score of a row is what it falls by when the row is deleted. It
    comes in closed form from one factorisation, for all rows and classes.

    Parameters
    ----------
    net : NeuralNet, FrozenEstimator or None, default=None
        For ``features="penultimate"`` only, as for `GradientEmbedding`; else neither used nor
        trained.
    features : {"raw", "penultimate"}, default="raw"
        Compare rows by their inputs as they are, or by what the last layer of `net` sees of them.
    kernel : "ntk" or callable, default="ntk"
        "ntk" is the paper's: the kernel of an infinitely wide two-layer ReLU net on rows scaled
        to length 1. A callable gives ``kernel(A, B)`` of shape (n_a, n_b) for rows that are not
        scaled, such as `sklearn.metrics.pairwise.rbf_kernel`; positive definite. Sparse rows
        reach it as CSR.
    jitter : float, default=0.01
        Added to the diagonal of H, whose entries are 1/2 for "ntk". The paper has none, which
        near duplicates turn into noise and exact ones into a division by zero; with it, equal
        rows with different labels get the largest scores, as they should.
    mode : {"one_vs_all", "subsample"}, default="one_vs_all"
        One against all: a row is scored on its own class against all other rows, +1 and -1, and
        one factorisation serves all classes. "subsample" is the paper's: each class against
        an equally large random sample of the other rows, a factorisation for each.
    n_repeats : int, default=1
        With "subsample": average over this many samples. One is noisy, ten help.
    ratio : float, default=1.0
        With "subsample": rows of other classes per row of the class.
    max_rows : int, default=10000
        Beyond this many rows H is replaced by a low-rank matrix, with an `ApproximationWarning`.
    n_landmarks : int, default=1000
        Rank then: how many rows, drawn class by class, the kernel is seen through.
    dtype : {"float64", "float32"}, default="float64"
        Of H. float32 halves memory and time; scores correlate at 0.999 and more.
    max_bytes : int, default=2**30
        Refuse a larger kernel matrix before making it.
    batch_size : int, default=1024
        Most rows per pass through the net; on a processor it takes fewer where they would not fit
        its caches. It changes memory and speed, not the result.
    task : {"classification", "regression"}, optional
        What the targets are, where no net or estimator of your own says it. By default their
        values tell: floats with a fraction, or more than 20 distinct ones, are numbers.
    random_state : int, RandomState or None, default=None
        Seed of samples, landmarks and the training of a net. Global generators are neither used nor
        changed. With the other defaults nothing is random.
    verbose : int, default=0
        1 shows on stderr how far the fit is, and the time left. It does not change the result.

    Attributes
    ----------
    detrimentality_ : ndarray of shape (n_samples,)
        ``a**2 / D`` with ``a = H^-1 y`` and ``D = diag(H^-1)``, float64, at least 0, in units of
        squared labels (+1 and -1, or a target scaled to variance 1). Higher = more detrimental,
        which is the paper's own sign.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers, most detrimental first.
    partial_terms_ : ndarray of shape (n_samples, 3)
        The paper's split of the score, of which it is the sum. With f the prediction for a row by
        the others: ``D f**2`` (how sure they are), ``D y**2`` (how alone the row is), and
        ``-2 D y f`` (accuracy: negative where they predict the row's label).
    route_ : {"exact", "low_rank"}
        How H was handled; "low_rank" if so for any sample.
    net_ : NeuralNet
        The net whose features are compared, with ``features="penultimate"``.
    classes_ : ndarray of shape (n_classes,)
        The labels, unless the target is numeric.
    n_features_in_ : int
        For arrays and data frames.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        For data frames with string column names.

    Raises
    ------
    ValueError
        From fit: if H would take more than `max_bytes` or is not positive definite, or a
        parameter is out of range.

    See Also
    --------
    KNNShapley : Neighbours instead of a kernel, judged by validation rows.

    Notes
    -----
    A floating target with a fraction or more than 20 distinct values is a regression: it is
    scaled to mean 0 and variance 1 and takes the place of the labels; the gaps of several
    columns are summed.

    The kernel knows angles only. Standardise the columns of a table first, so that no unit
    dominates; if the length of a row matters, append a constant column. A row of zeros counts
    as orthogonal to all others.

    With weights of rows, one on the mean, the jitter of a row is divided by its weight, which is
    what copies of it come to, and every row is scored as one of weight one among the others.

    Cost, exact: ``8 n**2`` bytes and n**3 operations, once. Low rank: ``8 n m`` bytes and n m**2
    operations with m landmarks; the diagonal of H stays exact, and with m = n so does all else.
    New rows cannot be scored.

    References
    ----------
    Ki, Choi, Chung. "Data Valuation Without Training of a Model". ICLR 2023, arXiv 2301.00930,
    equations 4 to 6.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.metrics import roc_auc_score
    >>> from skinfluence import ComplexityGap
    >>> from skinfluence.datasets import make_noisy_labels
    >>> X, y = load_digits(return_X_y=True)
    >>> y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    >>> scores = ComplexityGap().fit(X, y_noisy).detrimentality_
    >>> bool(roc_auc_score(is_noisy, scores) > 0.99)
    True
    """

    def __init__(
        self,
        net: Any = None,
        *,
        features: str = "raw",
        kernel: str | Callable[[NDArray[Any], NDArray[Any]], Any] = "ntk",
        jitter: float = 1e-2,
        mode: str = "one_vs_all",
        n_repeats: int = 1,
        ratio: float = 1.0,
        max_rows: int = 10_000,
        n_landmarks: int = 1_000,
        dtype: str = "float64",
        max_bytes: int = 2**30,
        batch_size: int = 1024,
        task: str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.net = net
        self.features = features
        self.kernel = kernel
        self.jitter = jitter
        self.mode = mode
        self.n_repeats = n_repeats
        self.ratio = ratio
        self.max_rows = max_rows
        self.n_landmarks = n_landmarks
        self.dtype = dtype
        self.max_bytes = max_bytes
        self.batch_size = batch_size
        self.task = task
        self.random_state = random_state
        self.verbose = verbose

    def _check_parameters(self) -> None:
        check_features(self.features, self.batch_size)
        check_parameter(
            "kernel",
            self.kernel,
            "'ntk' or a callable",
            holds=lambda k: callable(k) or str(k) == "ntk",
        )
        check_choice("mode", self.mode, ("one_vs_all", "subsample"))
        check_choice("dtype", self.dtype, ("float64", "float32"))
        check_number("jitter", self.jitter, low=0)
        check_number("ratio", self.ratio, low=0, open=True)
        for name in ("n_repeats", "max_rows", "n_landmarks", "max_bytes"):
            check_positive_integer(name, getattr(self, name))

    def _takes_weights(self) -> bool:
        return True

    def _prepare(self, rows: Rows, validation: Rows | None) -> tuple[ModelRows, ModelRows | None]:
        return coded_rows(self, rows, validation)

    def _fit_scores(self, rows: ModelRows, validation: ModelRows | None) -> NDArray[np.float64]:
        extract = feature_map(self, rows, self._seeds[0], self._training_weights)
        Z = extract(rows.inputs)
        with np.errstate(over="ignore"):  # the check finds it
            Z = unit_rows(Z, self.dtype) if self.kernel == "ntk" else Z.astype(self.dtype)
        check_finite(Z, f"X as {self.dtype}")
        self.route_ = "exact"
        if not hasattr(self, "classes_"):
            found = self._regression_gaps(Z, rows.targets)
        elif self.mode == "subsample":
            found = self._subsample_gaps(Z, rows.targets)
        else:
            found = self._one_vs_all_gaps(Z, rows.targets)
        self.partial_terms_ = found.terms
        return found.total

    def _regression_gaps(self, Z: Table, y: NDArray[np.float64]) -> Gaps:
        if self.mode == "subsample":
            raise ValueError(
                "mode='subsample' draws rows of other classes, but y is a numeric target. Use "
                "mode='one_vs_all', which takes the target as it is."
            )
        y, w = y.reshape(len(y), -1), self._training_weights
        centered = y - np.average(y, axis=0, weights=w)
        scale = np.sqrt(np.average(centered**2, axis=0, weights=w))
        targets = centered / np.where(scale > 0, scale, 1)
        return gaps(self._solve(Z, targets, np.zeros(len(y)), self._seeds[1], w), targets)

    def _one_vs_all_gaps(self, Z: Table, codes: NDArray[np.intp]) -> Gaps:
        targets = _signs(codes[:, np.newaxis] == np.arange(len(self.classes_)))
        found = self._solve(Z, targets, codes, self._seeds[1], self._training_weights)
        own = found.weights[np.arange(len(codes)), codes]
        return gaps(Solution(own, found.precisions), np.ones(len(codes)))

    def _subsample_gaps(self, Z: Table, codes: NDArray[np.intp]) -> Gaps:
        rng = own_random_state(self._seeds[1])
        total, terms = np.zeros(len(codes)), np.zeros((len(codes), 3))
        w = self._training_weights
        counting = np.arange(len(codes)) if w is None else np.flatnonzero(w > 0)
        for _ in told("repeats", range(self.n_repeats)):
            for code in range(len(self.classes_)):
                own, others = np.flatnonzero(codes == code), counting[codes[counting] != code]
                n_others = min(max(int(self.ratio * len(own)), 1), len(others))
                chosen = np.r_[own, rng.choice(others, n_others, replace=False)]
                targets = _signs(codes[chosen] == code)[:, np.newaxis]
                seed = int(rng.randint(2**31 - 1))
                heavy = None if w is None else w[chosen]
                solution = self._solve(Z[chosen], targets, targets[:, 0], seed, heavy)
                found = gaps(solution, targets)
                total[own] += found.total[: len(own)]
                terms[own] += found.terms[: len(own)]
        return Gaps(total / self.n_repeats, terms / self.n_repeats)

    def _solve(
        self, Z: Table, targets: np.ndarray, strata: np.ndarray, seed: int, weights: Weights
    ) -> Solution:
        kernel = self.kernel if callable(self.kernel) else ntk
        n_rows = Z.shape[0]
        n_landmarks = min(self.n_landmarks, n_rows)
        low_rank = low_rank_bytes(n_rows, n_landmarks)
        if n_rows <= self.max_rows:
            fix = (
                f"Set max_rows below {n_rows} for the low-rank route ({low_rank:,} bytes with "
                f"n_landmarks={self.n_landmarks}), use mode='subsample' or dtype='float32'"
            )
            self._check_bytes(n_rows, n_rows**2 * Z.dtype.itemsize, fix)
            return solve_exact(Z, targets, kernel, self.jitter, weights)
        self._check_bytes(n_rows, low_rank, "Lower n_landmarks")
        beyond = f"{n_rows} rows are more than max_rows={self.max_rows}: the low-rank route."
        check_number("jitter", self.jitter, low=0, open=True, fix=beyond)
        warnings.warn(
            f"{n_rows} rows are more than max_rows={self.max_rows}: their kernel matrix is "
            f"approximated through {n_landmarks} of them, so that scores are approximate. More "
            "n_landmarks come closer; max_rows sets how many rows are taken exactly.",
            ApproximationWarning,
            stacklevel=5,
        )
        self.route_ = "low_rank"
        landmarks = np.arange(n_rows) if weights is None else np.flatnonzero(weights > 0)
        if n_landmarks < len(landmarks):
            share = n_landmarks / len(landmarks)
            landmarks = landmarks[split_rows(strata[landmarks], share, seed)]
        return solve_low_rank(Z, targets, kernel, self.jitter, landmarks, weights=weights)

    def _check_bytes(self, n_rows: int, needed: int, fix: str) -> None:
        if needed > self.max_bytes:
            raise ValueError(
                f"The kernel matrix of {n_rows} rows takes {needed:,} bytes, more than "
                f"max_bytes={self.max_bytes:,}. {fix}, or raise max_bytes."
            )


def _signs(positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.where(positive, 1.0, -1.0)
