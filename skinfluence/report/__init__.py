"""An audit of a table in a file: what to look at, and the way back from a person's decisions."""

from skinfluence.report._apply import apply_review
from skinfluence.report._audit import Audit, Settings, audit_table
from skinfluence.report._demo import write_demo
from skinfluence.report._errors import AuditError
from skinfluence.report._output import output_folder, write_audit
from skinfluence.report._reading import read_table

__all__ = [
    "Audit",
    "AuditError",
    "Settings",
    "apply_review",
    "audit_table",
    "output_folder",
    "read_table",
    "write_audit",
    "write_demo",
]
