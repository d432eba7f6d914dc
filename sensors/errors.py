"""The one exception that reaches a user as a single line."""


class HandsightError(Exception):
    """Says what was expected, what was found and what to do, in one line; the command line prints it and exits with 2."""
