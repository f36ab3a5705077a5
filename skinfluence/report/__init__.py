"""An audit of a table in a file: what to look at, and the way back from a person's decisions."""

from skinfluence.report._apply import apply_review
from skinfluence.report._audit import Audit, Settings, audit_table
from skinfluence.report._demo import write_demo
from skinfluence.report._errors import AuditError
from skinfluence.report._files import written_whole
from skinfluence.report._methods import METHODS
from skinfluence.report._output import output_folder, write_audit
from skinfluence.report._reading import read_table
from skinfluence.rows._progress import bars_shown

__all__ = [
    "METHODS",
    "Audit",
    "AuditError",
    "Settings",
    "apply_review",
    "audit_table",
    "bars_shown",
    "output_folder",
    "read_table",
    "write_audit",
    "write_demo",
    "written_whole",
]
