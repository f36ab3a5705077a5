"""Validation rows in a form that a search does not cut with its folds."""

from typing import Any

from skinfluence.rows._containers import n_samples_of


class ValidationRows:
    """Validation rows and labels as one thing, which searches pass on whole.

    scikit-learn's searches and cross-validation cut whatever is as long as `X` to the training
    rows of the fold. An `X_val` that happens to have as many rows as `X` is taken for something
    with an entry for every training row, and cut too, without a word. Wrapped, all its rows arrive,
    whatever their number. Every `fit` of this package that takes `X_val` takes it, with `y_val`
    left out.

    Parameters
    ----------
    X : array-like, mapping of arrays, or torch data set
        Trusted rows, as the training rows are given.
    y : array-like of shape (n_rows,) or (n_rows, n_outputs), optional
        Their labels. None only for a data set that holds its targets.
    sensitive : array-like of shape (n_rows,), optional
        The group of every row, for objectives that compare groups; takes the place of
        `sensitive_val`.

    Attributes
    ----------
    X, y, sensitive : as given

    Raises
    ------
    ValueError
        From fit: if `y_val` or `sensitive_val` is given besides, or groups come to a method that
        compares none.

    Notes
    -----
    On purpose it has neither length nor shape and gives no rows: it is no array, and nothing can
    transform it. So in a Pipeline leave `X_val` out of `transform_input` and wrap rows that are
    already as the method is to see them; or, where the pipeline is not inside of a search, give
    plain arrays and `transform_input=["X_val"]`.

    Examples
    --------
    Both halves of iris have 75 rows. Plain arrays would be cut to 50 rows in each fold:

    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skinfluence import CleanedClassifier, KNNShapley, ValidationRows
    >>> X, y = load_iris(return_X_y=True)
    >>> trusted = ValidationRows(X[1::2], y[1::2])
    >>> trusted
    <ValidationRows: 75 rows>
    >>> model = CleanedClassifier(LogisticRegression(max_iter=500), KNNShapley())
    >>> search = GridSearchCV(model, {"contamination": [0.0, 0.1]}, cv=3)
    >>> bool(search.fit(X[::2], y[::2], X_val=trusted).best_score_ > 0.9)
    True
    """

    def __init__(self, X: Any, y: Any = None, sensitive: Any = None) -> None:
        self.X = X
        self.y = y
        self.sensitive = sensitive

    def __repr__(self) -> str:
        return f"<ValidationRows: {n_samples_of(self.X)} rows>"

    def __float__(self) -> float:
        """Refuse what a conversion to an array ends in, such as a transformer's."""
        raise TypeError(
            "ValidationRows cannot be transformed or turned into an array: they go to the fit of a "
            "method or cleaner as they are. In a Pipeline, leave X_val out of transform_input and "
            "wrap transformed rows, or give X_val and y_val as plain arrays."
        )


def validation_parts(X_val: Any, y_val: Any, sensitive_val: Any = None) -> tuple[Any, Any, Any]:
    """Unwrap what the user gave to fit, as X_val, y_val and sensitive_val."""
    if isinstance(y_val, ValidationRows):
        raise ValueError(
            f"Got y_val={y_val!r}, but ValidationRows hold rows and labels together and go to "
            "X_val: fit(X, y, X_val=ValidationRows(X_val, y_val))."
        )
    if not isinstance(X_val, ValidationRows):
        return X_val, y_val, sensitive_val
    if y_val is not None:
        raise ValueError(
            f"Got y_val besides X_val={X_val!r}, but expected the labels in one place. Leave y_val "
            "out: fit(X, y, X_val=ValidationRows(X_val, y_val))."
        )
    if sensitive_val is not None and X_val.sensitive is not None:
        raise ValueError(
            f"Got sensitive_val besides the groups in X_val={X_val!r}, but expected them in one "
            "place. Leave sensitive_val out."
        )
    groups = X_val.sensitive if sensitive_val is None else sensitive_val
    return X_val.X, X_val.y, groups
