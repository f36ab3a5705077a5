"""The error that a command shows as one line."""


class AuditError(Exception):
    """Something in the input or the options, in words for the person who called the command."""
