"""What is known of one training row, and how it reads."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinfluence.display._columns import ColumnApart
from skinfluence.display._gallery import Suspect
from skinfluence.display._kinds import N_NEAR, Fault
from skinfluence.display._style import shorten


@dataclass(frozen=True)
class RelatedRow:
    """A training row that says something of another one.

    Attributes
    ----------
    row : int
        Its number.
    label : object
        The label or number given to it.
    value : float
        How far away it is, in units of the typical distance from a row to the nearest other one;
        of proponents and opponents, its influence: positive = it lowers the loss of the row
        explained at its label.
    """

    row: int
    label: object
    value: float


@dataclass(frozen=True)
class Learning:
    """How the probability of a label went along the training.

    Attributes
    ----------
    epochs : ndarray of shape (n_points,)
        How many epochs were complete.
    given : ndarray of shape (n_points,)
        The probability of the label given.
    rival : object
        The other label that was likeliest on the mean.
    other : ndarray of shape (n_points,)
        Its probability.
    learnt_at : int or None
        The epoch from which on the label given was predicted to the end; None if it was not
        predicted at the end.
    out_of_sample : bool
        Whether the nets were not trained on the row.
    """

    epochs: NDArray[np.intp]
    given: NDArray[np.float64]
    rival: object
    other: NDArray[np.float64]
    learnt_at: int | None
    out_of_sample: bool


@dataclass(frozen=True)
class Explanation:
    """All that a method and the rows around it say of one training row; see `explain`.

    Attributes
    ----------
    row : int
        Its number.
    n_rows : int
        How many training rows there are.
    detrimentality : float
        Its score.
    place : int
        1 for the most detrimental row.
    given : object
        The label or number given.
    predicted : object or None
        The label or number predicted, if the method predicts.
    confidence : float or None
        The probability of the label predicted.
    out_of_sample : bool
        Whether what predicts was not trained on the row.
    p_value : float or None
        Of a calibrated method.
    learning : Learning or None
        Confidence along the training, if one was followed.
    neighbors : list of RelatedRow
        The nearest rows, whatever their labels.
    conflicts : list of RelatedRow
        Equal or nearly equal rows with other labels; of numbers, equal rows with other numbers.
    proponents, opponents : list of RelatedRow
        The rows that lower and raise its loss most, if the method has influence.
    columns : list of ColumnApart
        The columns of a table in which it is set apart most from the rows given its label.
    fault : Fault or None
        The kind of fault and its grounds, of classes that are predicted by models that were not
        trained on the row.
    """

    row: int
    n_rows: int
    detrimentality: float
    place: int
    given: object
    predicted: object | None
    confidence: float | None
    out_of_sample: bool
    p_value: float | None
    learning: Learning | None
    neighbors: list[RelatedRow]
    conflicts: list[RelatedRow]
    proponents: list[RelatedRow]
    opponents: list[RelatedRow]
    columns: list[ColumnApart]
    fault: Fault | None
    _suspect: Suspect | None = field(default=None, repr=False)
    _shown: list[str] | None = field(default=None, repr=False)

    @property
    def kind(self) -> str | None:
        """The kind of fault: "wrong label", "rare", "ambiguous", or None without grounds."""
        return None if self.fault is None else self.fault.kind

    @property
    def text(self) -> str:
        """The explanation in words, a line for each kind of evidence."""
        lines = [
            self._about_score(),
            self._about_prediction(),
            self._about_fault(),
            self._about_learning(),
            self._about_neighbors(),
            self._about_conflicts(),
            self._about_influence(),
            self._about_columns(),
        ]
        return "\n".join(line for line in lines if line)

    def __str__(self) -> str:
        return self.text

    def _about_score(self) -> str:
        line = (
            f"Row {self.row}: detrimentality {self.detrimentality:.3g}, number {self.place:,} of "
            f"{self.n_rows:,} from the most detrimental down."
        )
        return line if self.p_value is None else f"{line} p-value {self.p_value:.2g}."

    def _about_prediction(self) -> str:
        line = f"Given: {_named(self.given)}."
        if self.predicted is None:
            return line
        who = "models that were not trained on the row"
        if not self.out_of_sample:
            who = "a net that was trained on the row and may know its label by heart"
        sure = "" if self.confidence is None else f" with probability {self.confidence:.2f}"
        return f"{line} Predicted: {_named(self.predicted)}{sure}, by {who}."

    def _about_fault(self) -> str:
        fault = self.fault
        if fault is None or (fault.kind is None and fault.given >= fault.other):
            return ""
        given, other = _named(self.given), _named(fault.other_label)
        near = f"of the {N_NEAR} nearest rows {fault.near_other} are given {other}"
        sure = f"{other} has probability {fault.other:.2f} and {given} {fault.given:.2f}"
        grounds = {
            "wrong label": f"{sure}, and {near}",
            "rare": "its nearest row is farther away than that of nine rows in ten",
            "ambiguous": f"{sure}; {near} and {fault.near_given} {given}",
        }
        if fault.kind is None:
            return "Kind of fault: unclear."
        return f"Kind of fault: {fault.kind}; {grounds[fault.kind]}."

    def _about_learning(self) -> str:
        learning = self.learning
        if learning is None:
            return ""
        last = int(learning.epochs[-1])
        if learning.learnt_at is None:
            line = f"Training: after {last} epochs {_named(self.given)} was not predicted"
        elif learning.learnt_at == learning.epochs[0]:
            line = f"Training: {_named(self.given)} was predicted from the first record on"
        else:
            line = (
                f"Training: {_named(self.given)} was predicted from epoch {learning.learnt_at} of "
                f"{last} on"
            )
        means = np.nanmean(learning.given), np.nanmean(learning.other)
        who = "not trained" if learning.out_of_sample else "trained"
        return (
            f"{line}; its mean probability is {means[0]:.2f}, that of {_named(learning.rival)} "
            f"{means[1]:.2f} (nets {who} on the row)."
        )

    def _about_neighbors(self) -> str:
        if not self.neighbors:
            return ""
        rows = ", ".join(f"{_named(near.label)} (row {near.row})" for near in self.neighbors)
        return f"Nearest rows: {rows}."

    def _about_conflicts(self) -> str:
        kinds = []
        for name, alike in (("Equal", True), ("Nearly equal", False)):
            rows = [
                f"row {other.row} is given {_named(other.label)}"
                for other in self.conflicts
                if (other.value == 0) == alike
            ]
            if rows:
                kinds.append(f"{name}, with another label: {', '.join(rows)}.")
        return " ".join(kinds)

    def _about_influence(self) -> str:
        lines = []
        for name, rows in (("lower", self.proponents), ("raise", self.opponents)):
            if rows:
                named = ", ".join(f"{_named(other.label)} (row {other.row})" for other in rows)
                lines.append(f"Rows that {name} its loss most: {named}.")
        return " ".join(lines)

    def _about_columns(self) -> str:
        rare = [column for column in self.columns if column.share <= 0.1]
        if not rare:
            return ""
        named = []
        for column in rare:
            value, typical = _valued(column.value), _valued(column.typical)
            named.append(f"{column.name} = {value} ({typical}; {column.share:.1%})")
        return (
            "Columns set apart from rows given the same (their median or most frequent value; the "
            f"share of them at least as far off, or with the same value): {', '.join(named)}."
        )

    def display(self, ax: Any = None) -> Any:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            None makes a figure.

        Returns
        -------
        ExplanationDisplay
        """
        from skinfluence.display._explain import ExplanationDisplay

        return ExplanationDisplay.from_predictions(self, ax=ax)


def _named(label: object) -> str:
    return _valued(label) if isinstance(label, float) else repr(label)


def _valued(value: object) -> str:
    return shorten(value, 28)
