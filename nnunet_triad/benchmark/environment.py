"""Where things are: nnU-Net's folders, the manifests, the weights, the benchmark's own folder."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

DATA_VARIABLE = "TRIAD_DATA"
# What a command that starts later, elsewhere, must see as it is now.
_CARRIED = (
    "nnUNet_raw",
    "nnUNet_preprocessed",
    "nnUNet_results",
    "nnUNet_extTrainer",
    "nnUNet_n_proc_DA",
    "nnUNet_compile",
    "TRIAD_WEIGHTS",
    DATA_VARIABLE,
)


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Folders and the device of a benchmark; picklable, so that a cluster's job sees the same."""

    folder: Path  # runs/NAME, results/NAME.csv, report.html
    device: str = "cuda"
    launcher: tuple[str, ...] = ()  # in front of each command, such as a container's
    variables: Mapping[str, str] = field(default_factory=dict)  # those of `_CARRIED` that are set

    @classmethod
    def current(
        cls, folder: Path, *, device: str = "cuda", launcher: tuple[str, ...] = ()
    ) -> "Environment":
        """Return the environment of this process."""
        variables = {name: os.environ[name] for name in _CARRIED if os.environ.get(name)}
        return cls(folder=folder.resolve(), device=device, launcher=launcher, variables=variables)

    def path(self, variable: str) -> Path | None:
        """Return the folder that a variable names; None when it is unset or empty."""
        value = self.variables.get(variable, "").strip()
        return Path(value).expanduser() if value else None

    @property
    def results(self) -> Path:
        """The folder of one results table a finished run."""
        return self.folder / "results"

    def run_folder(self, name: str) -> Path:
        """Return the folder of a run's log, state and models."""
        return self.folder / "runs" / name
