"""One table of all that a method says of its training rows."""

from typing import Any

import numpy as np

from skinfluence.display._answers import Answers, answers_of
from skinfluence.display._optional import load_pandas


def issues_frame(method: Any, X: Any, y: Any, *, budget: float | None = None) -> Any:
    """Put what a fitted method says of its training rows into one table.

    Parameters
    ----------
    method : BaseDetrimentality or Pipeline
        Fitted; or a fitted pipeline that ends in a method.
    X : data frame, array, list, mapping of arrays, or torch data set
        The rows that `method` was fitted on, in their order.
    y : array-like of shape (n_samples,)
        The targets that it was fitted on.
    budget : int, float or None, default=None
        How many of the most detrimental rows to flag: a number of rows, or a share in [0, 1]. None
        leaves it to the method: by its `label_errors_`, if it has them, as many as may be with
        one in ten rightly labelled, and none, with an `UnknownErrorsWarning`, where that cannot be
        known; else the rows where `labels_` is 1 (the share `contamination`, which says nothing of
        how many are wrong), or no column.

    Returns
    -------
    DataFrame of shape (n_samples, n_columns)
        In the order of the rows, with the index of `X`, or of `y` if it alone has one. Columns
        that the method cannot fill are left out:

        detrimentality
            `detrimentality_`. Higher = more detrimental.
        p_value
            `p_values_` of a calibrated method. Lower = more detrimental.
        given_label, predicted_label, confidence
            The label given; the likeliest label, by models that were **not** trained on the row;
            their probability of it. Labels are yours, in their own dtype.
        in_sample_label, in_sample_confidence
            In place of these two where all there is is a net that was, or, if frozen, may have
            been trained on the row: it may repeat a wrong label that it knows by heart.
        suggested_label
            The label to go on with: the predicted one in flagged rows, else the given one. Not
            from predictions in sample, nor without flags.
        flag
            True for the rows to look at.

        Of a regression, `given_value`, `predicted_value` (or `in_sample_value`), `residual` (given
        less predicted; or `in_sample_residual`) and `suggested_value` take their place.

    Raises
    ------
    ImportError
        If pandas is not installed.
    TypeError
        If `method` is no method of this package.
    ValueError
        If rows are not as many as the method was fitted on, `y` holds labels it does not know or
        several targets a row, or `budget` is out of range.

    Notes
    -----
    Cost: none, but for predictions in sample, which take a forward pass over the rows for each
    checkpoint that the method recorded.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skinfluence import OutlierGradientDetector
    >>> from skinfluence.datasets import make_noisy_labels
    >>> from skinfluence.display import issues_frame
    >>> data = load_iris(as_frame=True)
    >>> y, is_noisy = make_noisy_labels(data.target, rate=0.1, random_state=0)
    >>> method = OutlierGradientDetector(committee=["kernels"], random_state=0).fit(data.data, y)
    >>> frame = issues_frame(method, data.data, y, budget=20)
    >>> frame.columns.tolist()
    ['detrimentality', 'given_label', 'predicted_label', 'confidence', 'suggested_label', 'flag']
    >>> bool((frame.suggested_label == data.target)[is_noisy].mean() > 0.8)
    True
    """
    pandas = load_pandas("issues_frame")
    answers = answers_of(method, X, y, budget=budget)
    indexed = pandas.DataFrame, pandas.Series
    index = next((part.index for part in (X, y) if isinstance(part, indexed)), None)
    return pandas.DataFrame(_columns(answers), index=index)


def _columns(answers: Answers) -> dict[str, np.ndarray]:
    """Name the columns, in their order; those of nothing are left out."""
    predictions = answers.predictions
    kind = "value" if answers.is_numeric else "label"
    columns: dict[str, np.ndarray | None] = {
        "detrimentality": answers.detrimentality,
        "p_value": answers.p_values,
        f"given_{kind}": answers.given,
    }
    if predictions is not None:
        out = predictions.out_of_sample
        columns[f"{'predicted' if out else 'in_sample'}_{kind}"] = predictions.values
        certainty = "residual" if answers.is_numeric else "confidence"
        found = predictions.confidence
        if answers.is_numeric:
            found = answers.given - predictions.values
        columns[certainty if out else f"in_sample_{certainty}"] = found
    columns[f"suggested_{kind}"] = answers.suggested
    columns["flag"] = answers.flags
    return {name: values for name, values in columns.items() if values is not None}
