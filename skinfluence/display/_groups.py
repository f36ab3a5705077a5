"""Scores and expected errors by annotator, source, day or class: whose labels to trust less."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact, mannwhitneyu, norm
from scipy.stats import t as student_t

from skinfluence.display._answers import Answers, answers_of, method_of
from skinfluence.display._course import codes_in
from skinfluence.display._noise_matrix import confident_disagreements
from skinfluence.display._optional import load_pandas
from skinfluence.rows._folds import quantiles
from skinfluence.rows._parameters import check_parameter, is_positive_number
from skinfluence.rows._targets import check_targets, classes_and_codes


def groups_frame(method: Any, X: Any, y: Any, *, by: Any, level: float = 0.95) -> Any:
    """Put the scores and the expected errors of groups of rows into one table.

    Parameters
    ----------
    method : BaseDetrimentality or Pipeline
        Fitted; or a fitted pipeline that ends in a method.
    X, y : as the method was fitted on
        All training rows, in their order.
    by : str or array-like of shape (n_samples,)
        A column of a data frame `X`, or what tells the groups apart: annotators, sources, days, or
        `y` itself.
    level : float, default=0.95
        Of the intervals, and of the certainty that `trust_less` asks for.

    Returns
    -------
    DataFrame of shape (n_groups, n_columns)
        Indexed by the groups, those to trust least first.

        n_rows
            How many rows the group has.
        mean_place, place_low, place_high
            Where its rows stand in the ranking of all, from 0 to 1, on the mean, with Student's
            interval; 0.5 if the group is like all. Higher = more detrimental.
        expected_errors
            How many of its labels are expected to be wrong, by the method's `label_errors_`: the
            sum of their probabilities, which is too low where wrong labels are not known there.
        contradicted
            How many rows have a label that is confidently contradicted, by models that were not
            trained on them (the confident joint of Northcutt et al. 2021). Hard rows are among
            them: it compares groups, and does not count errors.
        rate, rate_low, rate_high
            The share of them in the group, with Wilson's interval.
        p_value
            Of the group's labels being no worse than those of all other rows: Fisher's exact test
            of the contradicted, or without predictions the rank test of the scores; one-sided, and
            Holm-adjusted for the number of groups.
        trust_less
            True where the p-value is below ``1 - level``.

        What the method has not is left out: it takes class probabilities out of sample.

    Raises
    ------
    ImportError
        If pandas is not installed.
    ValueError
        If `by` names no column or has another length, or `level` is not in (0, 1).

    Notes
    -----
    A group is compared with the other rows as they are: one that got harder rows, or rarer classes,
    looks worse than its labels are. Intervals take rows for independent.

    References
    ----------
    Wilson. "Probable Inference, the Law of Succession, and Statistical Inference". JASA 22, 1927.
    Holm. "A Simple Sequentially Rejective Multiple Test Procedure". Scandinavian Journal of
    Statistics 6, 1979.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skinfluence import OutlierGradientDetector
    >>> from skinfluence.display import groups_frame
    >>> X, y = load_iris(return_X_y=True)
    >>> annotator = np.array(["ada", "bob", "eve"])[np.arange(150) % 3]
    >>> careless = np.flatnonzero(annotator == "bob")[::4]
    >>> y[careless] = (y[careless] + 1) % 3
    >>> method = OutlierGradientDetector(committee=["kernels"], random_state=0).fit(X, y)
    >>> frame = groups_frame(method, X, y, by=annotator)
    >>> frame.index[0], bool(frame.trust_less["bob"]), bool(frame.trust_less["ada"])
    ('bob', True, False)
    """
    pandas = load_pandas("groups_frame")
    check_parameter(
        "level",
        level,
        "a float in (0, 1)",
        holds=lambda value: is_positive_number(value) and value < 1,
    )
    answers = answers_of(method, X, y, budget=0)
    names, codes = classes_and_codes(_groups(X, by, len(answers.given)))
    places = quantiles(answers.detrimentality)
    errors = _contradicted(method_of(method), answers)
    members = [codes == number for number in range(len(names))]
    lines = [_line(places, errors, rows, level) for rows in members]
    frame = pandas.DataFrame(lines, index=pandas.Index(names))
    found = getattr(method_of(method), "label_errors_", None)
    if found is not None:
        wrong = [found.p_wrong[rows].sum() for rows in members]
        frame.insert(list(frame).index("place_high") + 1, "expected_errors", wrong)
    frame["p_value"] = holm([_p_value(places, errors, rows) for rows in members])
    frame["trust_less"] = frame["p_value"] < 1 - level
    first = ["p_value", "mean_place" if errors is None else "rate_low"]
    return frame.sort_values(first, ascending=[True, False], kind="stable")


def wilson_interval(n_errors: int, n_rows: int, level: float) -> tuple[float, float]:
    """Bound a share by Wilson's interval."""
    z = float(norm.ppf((1 + level) / 2))
    share, weight = n_errors / n_rows, z * z / n_rows
    middle = (share + weight / 2) / (1 + weight)
    half = z * np.sqrt(share * (1 - share) / n_rows + weight / (4 * n_rows)) / (1 + weight)
    return max(0.0, middle - float(half)), min(1.0, middle + float(half))


def holm(p_values: list[float]) -> NDArray[np.float64]:
    """Adjust p-values for their number, step by step from the smallest."""
    values = np.asarray(p_values)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def _line(
    places: NDArray[np.float64],
    errors: NDArray[np.bool_] | None,
    rows: NDArray[np.bool_],
    level: float,
) -> dict[str, float]:
    n_rows, mean = int(rows.sum()), float(places[rows].mean())
    half = np.nan
    if n_rows > 1:
        spread = places[rows].std(ddof=1) / np.sqrt(n_rows)
        half = float(student_t.ppf((1 + level) / 2, n_rows - 1) * spread)
    line = {
        "n_rows": n_rows,
        "mean_place": mean,
        "place_low": max(0.0, mean - half),
        "place_high": min(1.0, mean + half),
    }
    if errors is not None:
        n_errors = int(errors[rows].sum())
        low, high = wilson_interval(n_errors, n_rows, level)
        line |= {"contradicted": n_errors, "rate": n_errors / n_rows}
        line |= {"rate_low": low, "rate_high": high}
    return line


def _p_value(
    places: NDArray[np.float64], errors: NDArray[np.bool_] | None, rows: NDArray[np.bool_]
) -> float:
    """Test whether a group is worse than the other rows; 1 if there are none."""
    if rows.all():
        return 1.0
    if errors is None:
        return float(mannwhitneyu(places[rows], places[~rows], alternative="greater").pvalue)
    table = [[int((part & kind).sum()) for kind in (errors, ~errors)] for part in (rows, ~rows)]
    return float(fisher_exact(table, alternative="greater").pvalue)


def _contradicted(method: Any, answers: Answers) -> NDArray[np.bool_] | None:
    """Tell which labels models that did not see the row are confident against."""
    found = getattr(method, "oof_probabilities_", None)
    if found is None or not hasattr(method, "classes_"):
        return None
    return confident_disagreements(found, codes_in(method.classes_, answers.given))


def _groups(X: Any, by: Any, n_rows: int) -> np.ndarray:
    if isinstance(by, str):
        columns = list(getattr(X, "columns", []))
        if by not in columns:
            raise ValueError(
                f"Got by={by!r}, but expected a column of X, which has {columns[:10]}, or an array "
                "with the group of every row."
            )
        by = X[by]
    groups = check_targets(by, n_rows)
    if groups.ndim != 1:
        raise ValueError(f"Got by of shape {groups.shape}, but expected one group a row.")
    return groups
