"""This project's commands, run as a user types them."""

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points

from nnunet_triad.errors import UserError

TRAIN_INSIDE = "train-inside"  # `studies.inside.train`, which is no command of users


def run(*command: object, variables: Mapping[str, str] | None = None) -> None:
    """Run one of the commands, or of nnU-Net's, quietly, in a process of its own.

    Args:
        command: its words.
        variables: of the environment, beside those of this process.

    Raises:
        UserError: it fails; its last line is quoted.
    """
    words = [str(word) for word in command]
    done = subprocess.run(
        [sys.executable, "-m", "studies.command", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **(variables or {})},
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise UserError(
            f"{' '.join(words)}: expected exit code 0, got {done.returncode}: {lines[-1]}"
        )


def main() -> None:
    """Run the command that the arguments are."""
    sys.argv = sys.argv[1:]
    if sys.argv[0] == TRAIN_INSIDE:
        from studies.inside import train

        train(*sys.argv[1:])
        return
    (command,) = entry_points(group="console_scripts", name=sys.argv[0])
    command.load()()


if __name__ == "__main__":
    main()
