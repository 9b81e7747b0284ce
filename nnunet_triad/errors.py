"""The error that a user's mistake raises, at the command line and in the library alike."""

import errno

# What concerns a whole run, not the one item that it happened at.
_OF_THE_RUN = (*(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE),)


class UserError(ValueError):
    """What was expected, what was found and what to do, in one line.

    A command prints the message without a traceback and exits with code 2.

    Args:
        message: the line; what breaks it, as a cell of a table may, becomes a blank.
        setting: the field of settings whose name the line begins with; a command puts its option
            there, as it is typed.
    """

    def __init__(self, message: str, *, setting: str = "") -> None:
        super().__init__(" ".join(message.splitlines()))
        self.setting = setting


def require(name: str, value: object, rule: str, is_good: bool) -> None:
    """Raise a UserError "NAME: expected RULE, got VALUE" unless `is_good`."""
    if not is_good:
        raise UserError(f"{name}: expected {rule}, got {value}", setting=name)


def reason_of(error: Exception) -> str:
    """Return why one item of many cannot be used, whatever it raised; the others go on.

    Args:
        error: of the item. Missing memory, a full disk and the like are raised again.

    Returns:
        A user's mistake in its own words; of another error its kind only, as its text may quote
        what is in a file.
    """
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in _OF_THE_RUN:
        raise error
    if isinstance(error, UserError):
        return str(error)
    return f"damaged, or of a kind that is not known here ({type(error).__name__})"
