"""Rows that are alike and labelled differently: no model can be right on both."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_array

from skinfluence.rows._containers import check_finite, is_table_or_images, n_samples_of
from skinfluence.rows._parameters import check_parameter, is_positive_number
from skinfluence.rows._targets import check_targets, classes_and_codes

# Entries of the differences that are held at a time.
_BLOCK = 2**22


def conflicting_rows(X: Any, y: ArrayLike, *, tolerance: float = 0.1) -> NDArray[np.intp]:
    """Name the pairs of rows that are equal, or nearly so, and carry different labels.

    At least one label of a pair is wrong, or the features cannot tell the classes apart there.
    Needs no model; whether a label is wrong where nothing is alike is for the methods to say.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
        Finite numbers; or a data frame. One with columns that are no numbers is searched for equal
        rows only, with ``tolerance=0``.
    y : array-like of shape (n_samples,)
        Class labels of any kind.
    tolerance : float, default=0.1
        How far apart nearly equal rows may be, in units of the typical distance: the median over
        the rows of the distance to the nearest row that is not equal. 0 takes equal rows only.

    Returns
    -------
    ndarray of shape (n_pairs, 2)
        Row numbers, the smaller one first, pairs in ascending order. Of k equal rows with two
        labels there are up to k * k / 4 pairs.

    Raises
    ------
    ValueError
        If a row holds NaN or infinity, labels are continuous, `tolerance` is negative, or a data
        frame with columns that are no numbers gets another tolerance than 0.
    TypeError
        If `X` is a mapping, a torch data set, or sparse.

    Notes
    -----
    The rule has no unit. Columns of a table are brought to standard deviation 1 first, because
    their units are arbitrary; pixels share theirs, and are left as they are. The distance is
    Euclidean, and its scale is taken from the data, since distances grow with the number of
    features. Where most rows have a near twin, that scale is the distance of twins: raise the
    tolerance. In d smooth dimensions, a share of about ``0.7 * tolerance ** d`` of the rows has
    another one this near by chance: with few features, lower the tolerance. Give images as
    images: flattened, a pixel that is nearly always blank would count as much as the others.

    Cost: a tree for up to 15 features, else the distances of all pairs of rows, a block at a time.

    Examples
    --------
    >>> from skinfluence.datasets import conflicting_rows
    >>> X = [[0, 0], [1, 0], [0, 1], [1, 1], [1, 0.001], [0, 1]]
    >>> conflicting_rows(X, ["a", "b", "a", "a", "a", "b"])
    array([[1, 4],
           [2, 5]])
    >>> conflicting_rows(X, ["a", "b", "a", "a", "a", "b"], tolerance=0)
    array([[2, 5]])
    """
    check_parameter(
        "tolerance",
        tolerance,
        "a finite number >= 0",
        holds=lambda value: value is not False and (value == 0 or is_positive_number(value)),
    )
    if issparse(X) or not is_table_or_images(X):
        raise TypeError(
            f"Got X of type {type(X).__name__}, but expected a table, a data frame or images as "
            "one array. Stack the rows of a mapping or data set by np.stack; turn a sparse matrix "
            "into an array by X.toarray()."
        )
    labels = _class_numbers(y, n_samples_of(X))
    groups, features = _equal_rows(X, tolerance)
    alike = np.arange(groups.max() + 1)
    couples = np.stack([alike, alike], axis=1)
    if tolerance > 0 and len(features) > 1:
        couples = np.concatenate([couples, _near(features, float(tolerance))])
    return _pairs_of_rows(couples, groups, labels)


def _class_numbers(y: ArrayLike, n_rows: int) -> NDArray[np.intp]:
    targets = check_targets(y, n_rows)
    if targets.ndim != 1:
        raise ValueError(f"Got y of shape {targets.shape}, but expected one label a row.")
    if targets.dtype.kind == "f" and not np.array_equal(targets, np.round(targets)):
        raise ValueError(
            "Got y with numbers that have a fraction, but expected class labels: targets of a "
            "regression nearly always differ. Bin them first, if equal rows should agree."
        )
    return classes_and_codes(targets)[1]


def _equal_rows(X: Any, tolerance: float) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Give every row the number of its kind, and the features of each kind, scaled."""
    others = list(X.select_dtypes(exclude=["number", "bool"]).columns) if _is_frame(X) else []
    if others:
        if tolerance > 0:
            raise ValueError(
                f"Got tolerance={tolerance!r} for a data frame whose columns {others} are no "
                "numbers, so rows have no distance. Set tolerance=0 for equal rows, or encode "
                "these columns."
            )
        return _equal_records(X), np.empty((0, 0))
    values = check_array(X, allow_nd=True, ensure_all_finite=False)
    check_finite(values, "X")
    # as they came: large integers that differ may be equal as floats
    exact = values.reshape(len(values), -1)
    kinds, groups = np.unique(exact, axis=0, return_inverse=True)
    flat, distinct = exact.astype(np.float64), kinds.astype(np.float64)
    if values.ndim > 2:
        return groups.reshape(-1), distinct - flat.mean()
    varied = np.ptp(flat, axis=0) > 0
    flat, distinct = flat[:, varied], distinct[:, varied]
    return groups.reshape(-1), (distinct - flat.mean(0)) / flat.std(0)


def _is_frame(X: object) -> bool:
    return hasattr(X, "iloc") and hasattr(X, "select_dtypes")


def _equal_records(frame: Any) -> NDArray[np.intp]:
    missing = np.flatnonzero(frame.isna().to_numpy().any(1))
    if len(missing):
        raise ValueError(
            f"X has missing values in {len(missing)} of {len(frame)} rows, the first is row "
            f"{missing[0]}. Whether two of them are equal is not known; impute or drop them."
        )
    numbers: dict[tuple[object, ...], int] = {}
    records = frame.itertuples(index=False, name=None)
    return np.array([numbers.setdefault(record, len(numbers)) for record in records])


def _near(features: NDArray[np.float64], tolerance: float) -> NDArray[np.intp]:
    """Find the pairs of distinct rows within the tolerance, the smaller number first."""
    model = NearestNeighbors(n_neighbors=1).fit(features)
    radius = tolerance * float(np.median(model.kneighbors()[0]))
    # distances of far-off points by their inner product are rounded: search wider, then compute
    n_features = features.shape[1]
    slack = 4 * n_features * np.finfo(np.float64).eps * float((features**2).sum(1).max())
    wider = np.sqrt((1 + 1e-9) * radius**2 + slack)
    found = model.radius_neighbors(radius=wider, return_distance=False)
    one = np.repeat(np.arange(len(features)), [len(rows) for rows in found])
    couples = np.stack([one, np.concatenate(found)], axis=1).astype(np.intp)
    couples = couples[couples[:, 0] < couples[:, 1]]
    step = max(1, _BLOCK // n_features)
    blocks = (couples[start : start + step] for start in range(0, len(couples), step))
    kept = [b[_distances(features, b) <= radius] for b in blocks]
    return np.concatenate([couples[:0], *kept])


def _distances(features: NDArray[np.float64], couples: NDArray[np.intp]) -> NDArray[np.float64]:
    differences = features[couples[:, 0]] - features[couples[:, 1]]
    return np.asarray(np.sqrt((differences**2).sum(1)))


def _pairs_of_rows(
    couples: NDArray[np.intp], groups: NDArray[np.intp], labels: NDArray[np.intp]
) -> NDArray[np.intp]:
    """List the rows of each couple of groups whose labels differ."""
    members = np.split(np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))[:-1])
    lowest = np.array([labels[rows].min() for rows in members])[couples].min(1)
    highest = np.array([labels[rows].max() for rows in members])[couples].max(1)
    pairs = [np.empty((0, 2), dtype=np.intp)]
    for one, two in couples[lowest < highest].tolist():
        left, right = np.meshgrid(members[one], members[two], indexing="ij")
        differ = labels[left] != labels[right]
        pairs.append(np.stack([left[differ], right[differ]], axis=1))
    found: NDArray[np.intp] = np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)
    return found
