"""The error that a user's mistake raises, at the command line and in the library alike."""


class UserError(ValueError):
    """What was expected, what was found and what to do, in one line.

    A command prints the message without a traceback and exits with code 2.
    """
