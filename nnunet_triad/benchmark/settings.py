"""The settings of the benchmark's commands: which runs, on what of a cluster, in which report."""

from dataclasses import dataclass
from pathlib import Path

from nnunet_triad.errors import require
from nnunet_triad.training.settings import Settings, option


@dataclass(frozen=True, kw_only=True)
class RunsSettings(Settings):
    """The planned runs."""

    runs_file: Path | None = option(
        None, "A CSV of your own runs in place of the paper's (see the docs).", flag="--runs"
    )


@dataclass(frozen=True, kw_only=True)
class SelectionSettings(RunsSettings):
    """Which of them; an empty field admits all."""

    task: tuple[str, ...] = option(
        (), "segmentation, classification or registration; repeatable.", is_repeated=True
    )
    dataset: tuple[str, ...] = option((), "Only this dataset; repeatable.", is_repeated=True)
    architecture: tuple[str, ...] = option((), "unet, swin_b, ...; repeatable.", is_repeated=True)
    initialization: tuple[str, ...] = option(
        (), "scratch, voco, triad; repeatable.", is_repeated=True
    )


@dataclass(frozen=True, kw_only=True)
class SlurmSettings(Settings):
    """What a job asks of the cluster; the defaults fit a segmentation run on one GPU."""

    partition: str = option("", "Slurm: partition.")
    hours: int = option(48, "Slurm: time limit; a run goes on after it.", low=1)
    gpus: int = option(1, "Slurm: GPUs a run.", low=0)
    cpus: int = option(12, "Slurm: cores a run.", low=1)
    memory_gb: int = option(64, "Slurm: main memory a run.", low=1)
    parallel: int = option(16, "Slurm: runs at a time.", low=1)
    slurm_option: tuple[str, ...] = option(
        (), "Slurm: NAME=VALUE for sbatch; repeatable.", is_repeated=True
    )
    requeues: int = option(10, low=0)  # how often a job that reached its time limit goes on

    def __post_init__(self) -> None:
        super().__post_init__()
        for text in self.slurm_option:
            require("slurm-option", text, "NAME=VALUE", all(text.lstrip("-").partition("=")))

    @property
    def further(self) -> dict[str, str]:
        """Further options of sbatch, by name."""
        pairs = [text.lstrip("-").partition("=") for text in self.slurm_option]
        return {name: value for name, _, value in pairs}


@dataclass(frozen=True, kw_only=True)
class ReportSettings(RunsSettings):
    """What the page shows."""

    results: tuple[Path, ...] = option(
        (), "A results table to report instead of the folder's; repeatable.", is_repeated=True
    )
    output: Path | None = option(None, "The page.", show_default="FOLDER/report.html")
    title: str = option("Triad benchmark", "The page's heading.")
    figure: tuple[Path, ...] = option((), "A picture to embed; repeatable.", is_repeated=True)
    caption: tuple[str, ...] = option(
        (), "What the picture shows, one for each --figure, in order.", is_repeated=True
    )
    note: tuple[str, ...] = option(
        (), "A paragraph above the results, such as what was run; repeatable.", is_repeated=True
    )
    # a mistyped number would fill the memory
    resamples: int = option(2000, "Bootstrap resamples, 100 to 100000.", low=100, high=100_000)

    def __post_init__(self) -> None:
        super().__post_init__()
        rule = f"at most one a figure ({len(self.figure)})"
        require("caption", len(self.caption), rule, len(self.caption) <= len(self.figure))

    @property
    def captions(self) -> tuple[str, ...]:
        """One a figure; its name where there is none."""
        names = (path.stem.replace("_", " ") for path in self.figure[len(self.caption) :])
        return (*self.caption, *names)
