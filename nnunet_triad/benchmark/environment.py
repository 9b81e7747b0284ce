"""Where things are: nnU-Net's folders, the manifests, the weights, the benchmark's own folder."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

DATA_VARIABLE = "TRIAD_DATA"
_GPU_VARIABLE = "CUDA_VISIBLE_DEVICES"
# What a command that starts later, elsewhere, must see as it is now.
_CARRIED = (
    "nnUNet_raw",
    "nnUNet_preprocessed",
    "nnUNet_results",
    "nnUNet_extTrainer",
    "nnUNet_n_proc_DA",
    "nnUNet_compile",
    "TRIAD_WEIGHTS",
    "TRIAD_ORIGIN",
    "TRIAD_CACHE",
    DATA_VARIABLE,
)


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Folders and the device of a benchmark; picklable, so that a cluster's job sees the same."""

    folder: Path  # runs/NAME, results/NAME.csv, report.html
    device: str = "cuda"
    launcher: tuple[str, ...] = ()  # in front of each command, such as a container's
    variables: Mapping[str, str] = field(default_factory=dict)  # set for each command

    @classmethod
    def current(
        cls, folder: Path, *, device: str = "cuda", launcher: tuple[str, ...] = ()
    ) -> "Environment":
        """Return the environment of this process."""
        variables = {name: os.environ[name] for name in _CARRIED if os.environ.get(name)}
        return cls(folder=folder.resolve(), device=device, launcher=launcher, variables=variables)

    def with_one_gpu(self) -> "Environment":
        """Return the environment whose commands see the first GPU that this process may use.

        submitit sets CUDA_VISIBLE_DEVICES for its local jobs, to numbers alone. The commands get
        the first of its entries as it is: a number, a UUID (GPU-...), a part of a GPU (MIG-...), or
        nothing, where all are hidden. Of a machine's GPUs it is 0. A cluster's job has a value of
        its own instead.
        """
        if self.device != "cuda":
            return self
        first = os.environ.get(_GPU_VARIABLE, "0").split(",")[0].strip()
        return replace(self, variables={**self.variables, _GPU_VARIABLE: first})

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
