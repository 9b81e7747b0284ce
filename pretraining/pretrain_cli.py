"""`triad-pretrain`: pre-train an encoder on a volume store."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnunet_triad.cli import DryRunOption, VersionOption, make_app, run_app, takes_settings
from nnunet_triad.files import check_folder
from nnunet_triad.training.stop_signal import EXIT_STOPPED
from pretraining.settings import PretrainSettings

if TYPE_CHECKING:
    from pretraining.pretrain_data import PretrainData

_MANY_STEPS = 0.1  # share of the steps without a loss from which on it is said

_HELP = f"""Pre-train an encoder on a volume store.

The encoder learns by --objective: the paper's autoencoder (L1, and a log-ratio loss with the
embedded descriptions), or what others have published. Defaults are the paper's, but for
--objective, whose authors' optimiser a run takes. Run the same command again to continue a run;
SIGTERM, SIGUSR2 or Ctrl-C saves it and exits with code {EXIT_STOPPED}.

On several GPUs: torchrun --nproc-per-node 2 --no-python triad-pretrain STORE OUTPUT; on a cluster:
srun triad-pretrain STORE OUTPUT
"""

app = make_app(_HELP)


@app.command(help=_HELP)
@takes_settings()
def pretrain(
    store: Annotated[Path, typer.Argument(help="Volume store, from triad-curate and triad-embed.")],
    output: Annotated[
        Path, typer.Argument(help="Folder for weights, checkpoint, log and pictures.")
    ],
    *,
    settings: PretrainSettings,
    dry_run: DryRunOption = False,
    version: VersionOption = False,
) -> None:
    """Pre-train an encoder on a volume store."""
    from nnunet_triad.training.distributed import join_process_group
    from pretraining.crop_fit import share_outside
    from pretraining.dry_run import measure
    from pretraining.loop import pretrain as train
    from pretraining.pictures import PROGRESS_NAME, crops_path
    from pretraining.pretrain_data import load_data

    check_folder(output)
    with join_process_group(settings.device) as group:
        data = load_data(store, settings)
        padding = share_outside(data.table.shape, settings.crop_size)
        if padding and group.is_main:
            typer.echo(
                f"note: {padding:.0%} of each crop of {settings.crop_size} voxels is padding, as "
                f"the volumes have {data.table.shape}",
                err=True,
            )
        if group.is_main and settings.objective.needs_texts:
            _say_descriptions_alike(data, settings)
        if dry_run:
            report = measure(data, settings, group)
            if group.is_main:
                typer.echo(report)
            return
        path = train(data, output, settings=settings, group=group)
    if group.is_main:
        pictures = filter(None, (crops_path(output, settings.objective), output / PROGRESS_NAME))
        typer.echo(f"encoder: {path}\npictures: {', '.join(map(str, pictures))}")


def _say_descriptions_alike(data: "PretrainData", settings: PretrainSettings) -> None:
    from pretraining.pretrain_data import share_without_triplets

    share = share_without_triplets(data, settings.batch_size)
    if share >= _MANY_STEPS:
        without = settings.objective.without_texts
        leave_out = f", or leave that loss out by {without}" if without else ""
        typer.echo(
            f"note: in some {share:.0%} of the steps no descriptions can be compared (all alike, "
            "or fewer than three crops), and the log-ratio loss is zero; describe the volumes "
            f"yourself (triad-embed STORE --descriptions TABLE){leave_out}",
            err=True,
        )


def main() -> None:
    """Run the command."""
    run_app(app)
