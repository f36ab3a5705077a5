"""Containers of rows: tables, images, mappings of arrays and torch data sets."""

import datetime
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import torch
from scipy.sparse import csr_matrix, issparse
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import validate_data
from torch.utils.data import DataLoader, Subset

from skinfluence.rows._pipelines import takes_raw

Container = TypeVar("Container")


class RowSource(Protocol):
    """What gives rows by their number: a torch data set, skorch's views of one."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> Any: ...


# Of a sparse table, so many numbers are made dense at a time.
_BLOCK = 2**20
_NUMERIC = "biufc"
# So many values of a column of objects are looked at for dates.
_LOOKED_AT = 100
_SPARSE_LAYOUTS = {torch.sparse_coo, torch.sparse_csr, torch.sparse_csc}

# Checked: a numeric array, a sparse table, arrays by the names of a net's inputs, or what gives
# rows one by one.
Inputs: TypeAlias = np.ndarray | csr_matrix | Mapping[str, Any] | RowSource


def is_table_or_images(X: object) -> bool:
    """Tell arrays, data frames and lists from what a net takes unconverted."""
    if issparse(X):  # a dict of keys among them; scikit-learn's own check refuses it
        return True
    is_view = hasattr(X, "dataset") and hasattr(X, "idx")
    is_array_like = isinstance(X, list | tuple) or hasattr(X, "shape") or hasattr(X, "__array__")
    is_dataset = not is_array_like and hasattr(X, "__getitem__") and hasattr(X, "__len__")
    return not (isinstance(X, Mapping) or is_view or is_dataset)


def n_samples_of(X: Any) -> int:
    """Count the rows of a container."""
    if isinstance(X, Mapping) and not issparse(X):
        return len(next(iter(X.values())))
    return int(X.shape[0]) if issparse(X) else len(X)


def check_inputs(estimator: object, X: Any, *, reset: bool) -> Inputs:
    """Check inputs, and record (or compare with) the number and names of the features."""
    if hasattr(X, "lazy") and not hasattr(X, "__len__"):
        raise TypeError(
            f"Got a {type(X).__name__} as X, which holds no rows yet. Pass X.collect()."
        )
    if takes_raw(estimator):
        given: Inputs = _checked_by_others(estimator, X, reset=reset)
        return given
    if issparse(X):
        return _checked_sparse(estimator, X, reset=reset)
    check_is_dense(X)
    if isinstance(X, DataLoader):
        raise TypeError(
            "Got a DataLoader as X, but rows are told apart by their number in a data set. Pass "
            "its data set, X.dataset; the net makes its own loaders (iterator_train, "
            "iterator_valid, batch_size)."
        )
    if isinstance(X, Mapping):
        return _checked_mapping(X)
    if not is_table_or_images(X):
        checked: Inputs = X
        return checked
    _check_holds_no_dates(X)
    _check_rows_are_even(X)
    try:
        table: np.ndarray = validate_data(
            estimator,
            X,
            reset=reset,
            dtype="numeric",
            allow_nd=True,
            ensure_all_finite=False,
            ensure_min_samples=2 if reset else 1,
        )
        if table.dtype.kind not in _NUMERIC:  # categories, for example, come as objects
            table = table.astype(np.float64)
    except (ValueError, TypeError) as error:
        words = _columns_of_words(X)
        if not words:
            raise
        raise ValueError(
            f"X holds words in the columns {words[:5]}, but expected numbers. Make numbers of them "
            f"first: make_pipeline(skrub.TableVectorizer(), {type(estimator).__name__}(...))."
        ) from error
    check_finite(table, "X")
    return table


def _checked_mapping(X: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make arrays of frames, whose rows could not be told from their columns, and of lists."""
    made = {}
    for name, value in X.items():
        if isinstance(value, list | tuple):
            _check_rows_are_even(value, f"X[{name!r}]")
        if isinstance(value, list | tuple) or _is_frame(value):
            made[name] = np.asarray(value)
    if isinstance(X, dict):
        return type(X)(**{**X, **made}) if made else X
    return {**X, **made}  # a tokenizer's encoding, which is made of more than its arrays


def _check_rows_are_even(X: Any, name: str = "X") -> None:
    """Refuse texts, and sequences of several lengths, saying what makes a table of them."""
    is_array = hasattr(X, "dtype") and getattr(X, "ndim", 0) == 1 and hasattr(X, "__len__")
    if not is_array and not isinstance(X, list | tuple):
        return
    values = X if isinstance(X, list | tuple) else np.asarray(X)
    some = list(values[:_LOOKED_AT])
    if some and all(isinstance(value, str) for value in some):
        raise ValueError(
            f"{name} holds texts, such as {some[0][:40]!r}, but nets take numbers. Put what makes "
            "numbers of them before the method, in a Pipeline: TfidfVectorizer, or a tokenizer "
            "such as skorch.hf.HuggingfaceTokenizer before a net that takes tokens (nets.text_net)."
        )
    lengths = [len(v) for v in some if isinstance(v, list | tuple | np.ndarray) and np.ndim(v)]
    if len(lengths) == len(some) and len(set(lengths)) > 1:
        raise ValueError(
            f"Rows of {name} have {min(lengths)} to {max(lengths)} entries among the first "
            f"{len(some)}. Pad them to one length and give the mask of what is padding beside "
            "them, in a dict, as tokenizer(texts, padding=True) does; or give a torch data set as "
            "X, and the net a collate_fn that pads each batch (iterator_train__collate_fn, "
            "iterator_valid__collate_fn)."
        )


def _checked_by_others(estimator: object, X: Any, *, reset: bool) -> Any:
    """Leave rows as they are, for a pipeline's steps to check; their features are noted."""
    if not hasattr(X, "__len__") and hasattr(X, "__array__"):
        X = np.asarray(X)
    if not hasattr(X, "__len__") and not hasattr(X, "shape"):
        raise TypeError(f"Got X={X!r}, but expected rows: a data frame, an array or a list.")
    kind = X.dtype.kind if isinstance(X, np.ndarray) else ""
    if kind == "c":
        raise ValueError("Complex data not supported: X holds complex numbers.")
    if kind and kind in "biuf" and X.ndim < 2:  # of texts, one a row is usual
        raise ValueError(
            f"Expected a table, got an array of shape {X.shape}. Reshape your data: "
            "X.reshape(-1, 1) for one feature, X.reshape(1, -1) for one row."
        )
    fewest = 2 if reset else 1
    if n_samples_of(X) < fewest:
        raise ValueError(
            f"Found array with {n_samples_of(X)} sample(s) while a minimum of {fewest} is required "
            f"by {type(estimator).__name__}."
        )
    if not is_table_or_images(X):
        return X
    return validate_data(estimator, X, reset=reset, skip_check_array=True)


def _checked_sparse(estimator: object, X: Any, *, reset: bool) -> csr_matrix:
    """Check a sparse table; the same numbers give the same arrays, whatever held them."""
    table = validate_data(
        estimator,
        X,
        reset=reset,
        accept_sparse="csr",
        dtype="numeric",
        ensure_all_finite=False,
        ensure_min_samples=2 if reset else 1,
    )
    check_finite(table, "X")
    indices, indptr = table.indices, table.indptr
    if indices.dtype == np.int64 and max(table.shape[1], table.nnz) < 2**31:
        indices, indptr = indices.astype(np.int32), indptr.astype(np.int32)  # trees take no others
    found = csr_matrix((table.data, indices, indptr), shape=table.shape)
    if not (found.has_canonical_format and found.data.all()):
        found = found.copy()  # the arrays may be the user's
        found.sum_duplicates()
        found.eliminate_zeros()
    return found


def check_is_dense(X: Any, name: str = "X") -> None:
    """Refuse what is sparse, naming what makes something dense of it."""
    if isinstance(X, Mapping) and not issparse(X):  # one of scipy's is both
        for key, value in X.items():
            check_is_dense(value, f"{name}[{key!r}]")
        return
    if issparse(X):
        way_out = f"{name}.toarray()"
    elif getattr(X, "layout", None) in _SPARSE_LAYOUTS:
        way_out = f"{name}.to_dense()"
    elif _dtypes_of(X) and all(hasattr(dtype, "fill_value") for dtype in _dtypes_of(X).values()):
        way_out = f"{name}.sparse.to_dense()"
    else:
        return
    fewer = "" if name == "y" else ", or make fewer columns of it first, as TruncatedSVD does"
    raise TypeError(
        f"Got {name} as a sparse {type(X).__name__} of shape {tuple(X.shape)}, but only X may be "
        f"sparse, and as a table of scipy's. Call {way_out}{fewer}."
    )


def _check_holds_no_dates(X: Any) -> None:
    """Refuse dates and durations, which are numbers only from some day on and in some unit."""
    dtypes = _dtypes_of(X) or {"": getattr(X, "dtype", None)}
    kinds = {name: getattr(dtype, "kind", "") for name, dtype in dtypes.items()}
    dates = [n for n, kind in kinds.items() if kind in set("Mm") or (kind == "O" and _dates(X, n))]
    if dates:
        where = f" in the columns {dates[:5]}" if dates != [""] else ""
        raise TypeError(
            f"X holds dates or durations{where}, but nets take numbers. Make numbers of them "
            "first, such as the seconds since the first one, (t - t.min()) / "
            "np.timedelta64(1, 's'), or the hour and the weekday."
        )


def _dates(X: Any, name: Any) -> bool:
    """Tell whether a column of objects begins with a date or a duration."""
    column = np.asarray(X if name == "" else X[name], dtype=object).ravel()
    dates = datetime.date | datetime.time | datetime.timedelta
    return any(isinstance(value, dates) for value in column[:_LOOKED_AT])


def _columns_of_words(X: Any) -> list[str]:
    """Name the columns of a data frame that hold a text that is no number."""
    found: list[str] = []
    for name in getattr(X, "columns", []):
        column = np.asarray(X[name], dtype=object)
        if any(isinstance(value, str) and not is_number(value) for value in column.ravel()):
            found.append(name)
    return found


def is_number(text: str) -> bool:
    """Tell a text that reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _dtypes_of(X: Any) -> dict[Any, Any]:
    """Say what a data frame's columns hold; nothing for what is none."""
    dtypes: Any = getattr(X, "dtypes", None)
    if hasattr(dtypes, "items"):
        return dict(dtypes.items())
    if not _is_frame(X):
        return {}
    return {name: X[name].to_numpy().dtype for name in X.columns}  # as numpy calls them


def _is_frame(X: object) -> bool:
    """Tell a data frame, of pandas, polars or another library."""
    return hasattr(X, "columns") and hasattr(X, "to_numpy")


def select(X: Container, rows: np.ndarray) -> Container:
    """Take rows of any container, as one of the same kind; a data set's as a Subset."""
    taken: Any
    if issparse(X):  # of its kinds, few can be indexed
        taken = X.tocsr()[rows]  # type: ignore[attr-defined]
    elif isinstance(X, Mapping):
        taken = type(X)(**{name: np.asarray(value)[rows] for name, value in X.items()})
    elif hasattr(X, "dataset") and hasattr(X, "idx"):  # skorch's view of a data set
        taken = X[rows]  # type: ignore[index]
    elif not is_table_or_images(X):
        taken = Subset(X, rows.tolist())  # type: ignore[arg-type] # skorch's views are none
    elif isinstance(X, tuple):
        taken = tuple(X[i] for i in rows)
    elif isinstance(X, np.ndarray | list) or hasattr(X, "iloc") or _is_frame(X):
        taken = _safe_indexing(X, rows)
    else:
        taken = (X if hasattr(X, "__getitem__") else np.asarray(X))[rows]
    selected: Container = taken
    return selected


def with_labels(y: Any, rows: np.ndarray, labels: np.ndarray) -> Any:
    """Copy targets of any container, with new labels in some rows."""
    if isinstance(y, list | tuple):
        changed = list(y)
        for i, label in zip(rows.tolist(), labels.tolist(), strict=True):
            old = changed[i]
            changed[i] = type(old)([label]) if isinstance(old, list | tuple) else label
        return type(y)(changed)
    if hasattr(y, "new_tensor"):  # torch's
        labels, y = y.new_tensor(labels.tolist()), y.clone()
        y[rows] = labels.reshape(y[rows].shape)
        return y
    y = y.copy() if hasattr(y, "copy") else np.asarray(y).copy()
    place = y.iloc if hasattr(y, "iloc") else y
    if y.ndim == 2:
        labels = labels[:, np.newaxis]
    place[rows] = labels
    return y


def check_finite(values: Any, name: str) -> None:
    """Refuse NaN and infinity, naming the rows."""
    if values.dtype.kind != "f":
        return
    if issparse(values):
        entries = np.flatnonzero(~np.isfinite(values.data))
        bad = np.unique(np.searchsorted(values.indptr, entries, side="right") - 1)
    else:
        bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1))
    if len(bad):
        raise ValueError(
            f"{name} holds NaN or infinity in {len(bad)} of {values.shape[0]} rows: "
            f"{first_rows(bad)}. Expected finite numbers; impute or drop these rows first."
        )


def center_and_scale(
    values: np.ndarray, axes: int | tuple[int, ...] = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Find mean and standard deviation in double precision; a constant column is only centred."""
    if issparse(values):
        return _of_sparse_columns(csr_matrix(values))
    center, scale = values.mean(axes, dtype=np.float64), values.std(axes, dtype=np.float64)
    is_single = values.dtype in {np.float16, np.float32}
    smallest = (1e-6 if is_single else 1e-13) * np.abs(center)  # what rounding alone may make
    varies = values.min(axes) != values.max(axes)  # a long sum rounds by more
    return center, np.where(varies & (scale > smallest), scale, 1.0)


def _of_sparse_columns(table: csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Do what `center_and_scale` does, a block of columns at a time."""
    columns, size = table.tocsc(), max(1, _BLOCK // table.shape[0])
    blocks = [columns[:, i : i + size].toarray(order="C") for i in range(0, table.shape[1], size)]
    center, scale = zip(*map(center_and_scale, blocks), strict=True)
    return np.concatenate(center), np.concatenate(scale)


def first_rows(rows: np.ndarray) -> str:
    """List the first few row numbers, for an error."""
    return ", ".join(map(str, rows[:5])) + (" and more" if len(rows) > 5 else "")
