"""What people look at: a table of answers."""

from skinfluence.display._issues_frame import issues_frame

__all__ = ["issues_frame"]
