"""What an audit finds in a table."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinfluence.datasets import conflicting_rows
from skinfluence.display import groups_frame, issues_frame
from skinfluence.display._optional import load_pandas
from skinfluence.methods._label_errors import LabelErrors
from skinfluence.methods._suspects import label_errors_by
from skinfluence.report._columns import Column, columns_in
from skinfluence.report._errors import AuditError
from skinfluence.report._methods import Choice, check_device
from skinfluence.report._nearby import contradicting
from skinfluence.report._reading import Table

# More different numbers than this may be a regression: the person has to say.
_MOST_CLASSES = 20
# Numbers do not begin so, but codes do.
_NAME = re.compile(r"0[0-9]+")
_FEWEST_ROWS = 20
_FEWEST_PER_CLASS = 5
# Where fewer rows are flagged, the worst rows fill the list up to this many.
_LEAST_TO_REVIEW = 50


@dataclass(frozen=True)
class Settings:
    """The options of an audit."""

    target: str
    id_column: str | None = None
    ignore: tuple[str, ...] = ()
    by: str | None = None
    task: str | None = None
    fdr: float = 0.2
    n_flag: int | None = None
    seed: int = 0
    method: str = "committee"
    device: str = "cpu"

    @property
    def left_out(self) -> list[str]:
        """The columns that no model sees; of who gave a label, they would learn the habits."""
        names = [self.target, self.id_column, self.by, *self.ignore]
        return list(dict.fromkeys(name for name in names if name is not None))


@dataclass(frozen=True)
class Audit:
    """All that was found; rows are in the order of the table."""

    table: Table
    settings: Settings
    is_numeric: bool
    choice: Choice
    method: Any  # fitted
    inputs: NDArray[np.float64]
    given: np.ndarray
    issues: Any  # data frame
    errors: LabelErrors
    flagged: NDArray[np.intp]
    review: NDArray[np.intp]  # the rows of the list, worst first
    nearest: list[list[int]]  # of each row of the list, those that contradict it
    suggested: np.ndarray
    conflicts: NDArray[np.intp]
    columns: list[Column]
    groups: Any  # data frame or None
    seconds: float
    warnings: list[str] = field(default_factory=list)


def audit_table(table: Table, settings: Settings, say: Callable[[str], None]) -> Audit:
    """Encode the columns, train the models, and gather what they say."""
    start = time.perf_counter()
    for name in (settings.target, settings.id_column, settings.by, *settings.ignore):
        _check_column(table, name)
    check_device(settings.method, settings.device)
    given, is_numeric = target_of(table, settings)
    features = [name for name in table.header if name not in settings.left_out]
    if not features:
        raise AuditError(f"{table.path} has no column to judge {settings.target!r} by.")
    columns = columns_in(table, features, given, is_numeric=is_numeric)
    warnings = [f"column {column.name!r} {column.note}" for column in columns if column.note]
    for warning in warnings:
        say(f"warning: {warning}")
    say(f"{len(given):,} rows, {len(features)} columns: encoding")
    inputs = encoded(table.typed[features], settings.seed)
    say(f"{settings.method}: training on {inputs.shape[1]} numbers a row")
    choice = Choice(settings.method, settings.device, settings.seed, is_numeric)
    method = _fitted(choice, inputs, given)
    say("looking at what it says")
    # the flags and suggestions are those of this audit
    own = ["flag", "suggested_value" if is_numeric else "suggested_label"]
    issues = issues_frame(method, inputs, given, budget=0).drop(columns=own)
    errors = label_errors_by(method, given, is_numeric=is_numeric)
    flagged = errors.flagged(settings.fdr, method.ranking_)
    n_review = max(len(flagged), min(_LEAST_TO_REVIEW, len(given)))
    if settings.n_flag is not None:
        n_review = min(settings.n_flag, len(given))
        flagged = method.ranking_[:n_review]
    review = method.ranking_[:n_review]
    conflicts = np.empty((0, 2), dtype=np.intp)
    if not is_numeric:
        conflicts = conflicting_rows(_texts(table, features), given, tolerance=0)
    groups = None
    if settings.by is not None:
        by = np.array(table.column(settings.by))
        groups = groups_frame(method, inputs, given, by=by)
    return Audit(
        table=table,
        settings=settings,
        is_numeric=is_numeric,
        choice=choice,
        method=method,
        inputs=inputs,
        given=given,
        issues=issues,
        errors=errors,
        flagged=flagged,
        review=review,
        nearest=contradicting(inputs, given, review, flagged, is_numeric=is_numeric),
        suggested=_suggested(method, issues, errors, is_numeric=is_numeric),
        conflicts=conflicts,
        columns=columns,
        groups=groups,
        seconds=time.perf_counter() - start,
        warnings=warnings,
    )


def _fitted(choice: Choice, inputs: NDArray[np.float64], given: np.ndarray) -> Any:
    method = choice.made(inputs, given)
    try:
        method.fit(inputs, given)
    except ValueError as error:
        raise AuditError(f"These rows cannot be judged: {' '.join(str(error).split())}") from None
    return method


def encoded(frame: Any, seed: int) -> NDArray[np.float64]:
    """Turn columns of all kinds into finite numbers."""
    try:
        import skrub
    except ImportError:
        raise AuditError(
            "An audit needs skrub, which is not installed: pip install 'skinfluence[audit]'."
        ) from None
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    texts = skrub.StringEncoder(random_state=seed)
    vectorizer = skrub.TableVectorizer(high_cardinality=texts)
    pipeline = make_pipeline(vectorizer, SimpleImputer(strategy="median"))
    return np.asarray(pipeline.fit_transform(frame), dtype=np.float64)


def target_of(table: Table, settings: Settings) -> tuple[np.ndarray, bool]:
    """Read the target: texts of classes as they stand in the file, or numbers."""
    name, typed = settings.target, table.typed[settings.target]
    texts = np.array([text.strip() for text in table.column(name)])
    # a class may well be called so, which pandas takes for a missing one
    missing = np.flatnonzero(typed.isna().to_numpy() & (texts != "None"))
    if len(missing):
        raise AuditError(
            f"Target {name!r} is missing in {len(missing)} rows, the first of them row "
            f"{missing[0] + 1}: leave these rows out."
        )
    _check_enough(table, len(texts))
    n_classes = len(np.unique(texts))
    if n_classes < 2:
        raise AuditError(
            f"Target {name!r} is {texts[0]!r} in every row: there is nothing to audit."
        )
    is_number = typed.dtype.kind in "iuf"
    if settings.task == "regression":
        if not is_number:
            raise AuditError(f"Target {name!r} holds no numbers, as --task regression expects.")
        numbers = typed.to_numpy(dtype=np.float64)
        if not np.isfinite(numbers).all():
            raise AuditError(f"Target {name!r} holds an infinite number.")
        return numbers, True
    are_names = any(_NAME.fullmatch(text) for text in texts.tolist())
    if settings.task is None and is_number and not are_names and n_classes > _MOST_CLASSES:
        raise AuditError(
            f"Target {name!r} looks continuous: {n_classes} different numbers. Say --task "
            "regression, or --task classification if they are names of classes."
        )
    _check_classes(name, texts)
    return texts, False


def _check_classes(name: str, texts: np.ndarray) -> None:
    classes, first, counts = np.unique(texts, return_index=True, return_counts=True)
    if len(texts) < _FEWEST_PER_CLASS * len(classes):
        raise AuditError(
            f"Target {name!r} has {len(classes)} classes for {len(texts)} rows, but expected "
            f"{_FEWEST_PER_CLASS} rows a class or more on the mean. Is it an identifier?"
        )
    if counts.min() < 2:
        lone = int(counts.argmin())
        raise AuditError(
            f"Class {str(classes[lone])!r} of target {name!r} has one row, row {first[lone] + 1}: "
            "nothing tells whether it is right. Correct it, or leave it out."
        )


def _check_enough(table: Table, n_rows: int) -> None:
    if n_rows < _FEWEST_ROWS:
        raise AuditError(
            f"{table.path} has {n_rows} rows, but models need {_FEWEST_ROWS} or more to judge them."
        )


def _check_column(table: Table, name: str | None) -> None:
    if name is not None and name not in table.header:
        raise AuditError(f"{table.path} has no column {name!r}; it has {', '.join(table.header)}.")


def _texts(table: Table, features: list[str]) -> Any:
    """Give the cells of some columns, in a data frame of objects."""
    pandas = load_pandas("audit")

    return pandas.DataFrame({name: table.column(name) for name in features}, dtype=object)


def _suggested(method: Any, issues: Any, errors: LabelErrors, *, is_numeric: bool) -> np.ndarray:
    """Name the likeliest other target of each row."""
    if is_numeric:
        return np.asarray(issues["predicted_value"])
    return np.asarray(method.classes_[errors.other])
