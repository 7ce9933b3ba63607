"""The one exception that a user is meant to read."""


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one line: it names the file or key, says what was expected
    and what to do. A door prints it without a stack trace and exits with 2.
    """


class NoSplit(UserError):
    """The data have no such split: too few images were there to hold any out, say."""
