"""The error that a user's mistake raises, at the command line and in the library alike."""


class UserError(ValueError):
    """What was expected, what was found and what to do, in one line.

    A command prints the message without a traceback and exits with code 2.

    Args:
        message: the line.
        setting: the field of settings whose name the line begins with; a command puts its option
            there, as it is typed.
    """

    def __init__(self, message: str, *, setting: str = "") -> None:
        super().__init__(message)
        self.setting = setting


def require(name: str, value: object, rule: str, is_good: bool) -> None:
    """Raise a UserError "NAME: expected RULE, got VALUE" unless `is_good`."""
    if not is_good:
        raise UserError(f"{name}: expected {rule}, got {value}", setting=name)
