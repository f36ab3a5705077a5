"""What an audit says of a row, in words."""

from skinfluence.report._audit import Audit


class Words:
    """Reasons and nearest rows, of any row of an audit."""

    def __init__(self, audit: Audit) -> None:
        issues, self._is_numeric = audit.issues, audit.is_numeric
        kind, certainty = ("value", "residual") if audit.is_numeric else ("label", "confidence")
        self._predicted = issues[f"predicted_{kind}"].tolist()
        self._certainty = issues[certainty].tolist()
        self._given = [text.strip() for text in audit.table.column(audit.settings.target)]
        self._equal: dict[int, int] = {}
        for one, other in audit.conflicts.tolist():
            self._equal.setdefault(one, other)
            self._equal.setdefault(other, one)
        self.near_name = "nearest rows" if audit.is_numeric else "nearest rows labelled otherwise"

    def reason(self, row: int) -> str:
        """Say what speaks against a row."""
        predicted, certainty = self._predicted[row], self._certainty[row]
        if self._is_numeric:
            return (
                f"models that did not see the row predict {predicted:.6g}, {abs(certainty):.3g} "
                "from the number given"
            )
        text = f"models that did not see the row say {predicted} with probability {certainty:.2f}"
        if row in self._equal:
            text += f"; an equal row is labelled otherwise: row {self._equal[row] + 1}"
        return text

    def near(self, rows: list[int]) -> str:
        """List nearest rows, from 1, with their targets."""
        return ", ".join(f"{row + 1} ({self._given[row]})" for row in rows)
