"""Rows of dask arrays, judged block by block when the result is asked for."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinfluence.nets._portable import Portable


def is_lazy(X: Any) -> bool:
    """Tell a dask collection from what is in memory."""
    return hasattr(X, "__dask_graph__")


def by_blocks(
    judge: Callable[..., np.ndarray],
    X: Any,
    y: Any = None,
    *,
    n_columns: int | None = None,
    dtype: Any = np.float64,
) -> NDArray[Any]:
    """Describe judge(X, y) of all rows as a dask array with the blocks of `X`; nothing is run."""
    # (n_rows, n_columns), or (n_rows,) without n_columns; typed as what it will be
    import dask.array
    from dask.delayed import delayed

    lengths = _lengths_of(X)
    X = X.rechunk(dict.fromkeys(range(1, X.ndim), -1))
    given = [X]
    if y is not None:
        if not is_lazy(y):
            y = dask.array.from_array(np.asarray(y), chunks=-1)  # type: ignore[no-untyped-call]
        if len(y.shape) != 1 or y.shape[0] != X.shape[0]:
            raise ValueError(
                f"Got y of shape {y.shape} for {X.shape[0]} rows of a dask array; expected one "
                "label or number a row. Score several targets in memory, block by block."
            )
        # as many axes as X, by which dask tells which blocks belong together
        given.append(y.rechunk((lengths,)).reshape(-1, *(1,) * (X.ndim - 1)))
    shape = (lengths,) if n_columns is None else (lengths, (n_columns,))
    lazy: NDArray[Any] = dask.array.map_blocks(  # type: ignore[no-untyped-call]
        _of_block,
        *given,
        # one task, which is sent to each worker once
        judge=delayed(Portable(judge), traverse=False),
        dtype=dtype,
        chunks=shape,
        drop_axis=list(range(len(shape), X.ndim)),
        meta=np.empty((0,) * len(shape), dtype=dtype),
    )
    return lazy


def _of_block(X: np.ndarray, *y: np.ndarray, judge: Portable) -> np.ndarray:
    scores: np.ndarray = judge.value(X, *(labels.reshape(-1) for labels in y))
    return scores


def _lengths_of(X: Any) -> tuple[int, ...]:
    """Give the numbers of rows of the blocks; refuse a collection that does not know them."""
    chunks = getattr(X, "chunks", None)
    if not isinstance(chunks, tuple):
        raise TypeError(
            f"Got a dask {type(X).__name__}, but expected a dask array. Call "
            "to_dask_array(lengths=True) on a data frame of numbers."
        )
    if any(np.isnan(size) for size in chunks[0]):
        raise ValueError(
            "Got a dask array whose blocks have unknown numbers of rows, so that scores could not "
            "be told apart. Call X.compute_chunk_sizes() first."
        )
    return tuple(int(size) for size in chunks[0] if size) or (0,)
