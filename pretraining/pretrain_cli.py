"""`triad-pretrain`: pre-train an encoder on a volume store."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nnunet_triad.cli import VersionOption, make_app, run_app
from nnunet_triad.errors import UserError
from nnunet_triad.training.stop_signal import EXIT_STOPPED, TrainingStopped
from pretraining.settings import PAPERS_WARMUP, RECIPES, PretrainSettings, Triple

_DEFAULT = PretrainSettings  # the defaults are class attributes: no model is imported for --help

_HELP = f"""Pre-train an encoder on a volume store.

The autoencoder reconstructs crops (L1), and its encoder is aligned with the embedded descriptions
(log-ratio loss). Defaults are the paper's, but for --recipe. Run the same command again to
continue a run; SIGTERM or Ctrl-C saves it and exits with code {EXIT_STOPPED}.

On several GPUs: torchrun --nproc-per-node 2 --no-python triad-pretrain STORE OUTPUT
"""

_MEMORY_ADVICE = (
    "try --precision bf16, --recompute-activations, a smaller --crop-size, or more processes"
)

app = make_app(_HELP)


@app.command(help=_HELP)
def pretrain(
    store: Annotated[Path, typer.Argument(help="Volume store, from triad-curate and triad-embed.")],
    output: Annotated[
        Path, typer.Argument(help="Folder for weights, checkpoint, log and pictures.")
    ],
    *,
    encoder: Annotated[
        str, typer.Option(help="unet, unet_t, swin_t, swin_b, swin_l, swin_h, swin_b_v1 or resenc.")
    ] = _DEFAULT.encoder,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = _DEFAULT.steps,
    batch_size: Annotated[
        int, typer.Option(help="Crops a step, over all processes together.")
    ] = _DEFAULT.batch_size,
    crop_size: Annotated[
        str, typer.Option(help="Voxels: one number, or x,y,z; multiples of the encoder's stride.")
    ] = str(_DEFAULT.crop_size[0]),
    learning_rate: Annotated[
        float | None,
        typer.Option(help="After the warm-up.", show_default="1e-4 for U-Nets, 1e-6 for Swin"),
    ] = None,
    warmup_steps: Annotated[
        int | None,
        typer.Option(
            help="Steps over which the learning rate rises.",
            show_default=f"{PAPERS_WARMUP}, at most half of the steps",
        ),
    ] = None,
    weight_decay: Annotated[
        float, typer.Option(help="AdamW's weight decay.")
    ] = _DEFAULT.weight_decay,
    gradient_clip: Annotated[
        float, typer.Option(help="Largest norm of the gradient.")
    ] = _DEFAULT.gradient_clip,
    reconstruction_weight: Annotated[
        float, typer.Option(help="Weight of the L1 loss.")
    ] = _DEFAULT.reconstruction_weight,
    log_ratio_weight: Annotated[
        float, typer.Option(help="Weight of the log-ratio loss; 0 needs no text embeddings.")
    ] = _DEFAULT.log_ratio_weight,
    recipe: Annotated[
        str,
        typer.Option(
            help="masked: 0.6 of the input hidden, with skips; paper: all through the bottleneck."
        ),
    ] = "masked",
    mask_ratio: Annotated[
        float | None,
        typer.Option(
            help="Share of the input's 8x8x8 blocks to hide.", show_default="as the recipe"
        ),
    ] = None,
    has_skips: Annotated[
        bool | None,
        typer.Option(
            "--skips/--no-skips",
            help="Connect the decoder to the encoder's finer features.",
            show_default="as the recipe",
        ),
    ] = None,
    decoder_width: Annotated[
        float, typer.Option(help="Channels of the decoder's levels, relative to the encoder's.")
    ] = _DEFAULT.decoder_width,
    reconstruction_scales: Annotated[
        int, typer.Option(help="Sizes, each half of the one before, over which L1 is averaged.")
    ] = _DEFAULT.reconstruction_scales,
    balance: Annotated[
        str,
        typer.Option(help="Draw each volume, dataset or organ equally often."),
    ] = _DEFAULT.balance,
    held_out: Annotated[
        int | None,
        typer.Option(
            help="Volumes to measure alignment and rank on, not to train on; of whole subjects.",
            show_default="a tenth of the store, at most 64",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of initial weights, crops, flips and masks.")
    ] = _DEFAULT.seed,
    precision: Annotated[
        str, typer.Option(help="fp32, or mixed for GPUs: bf16, fp16.")
    ] = _DEFAULT.precision,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda or mps.", show_default="cuda if there is one, else cpu"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that read crops; 0 reads in the training process.",
            show_default="0 on the CPU, else 4",
        ),
    ] = None,
    checkpoint_every: Annotated[
        int, typer.Option(help="Steps between checkpoints.")
    ] = _DEFAULT.checkpoint_every,
    picture_every: Annotated[
        int, typer.Option(help="Steps between pictures and measurements.")
    ] = _DEFAULT.picture_every,
    recompute_activations: Annotated[
        bool | None,
        typer.Option(
            "--recompute-activations/--keep-activations",
            help="Less memory, more time (Swin only).",
            show_default="recompute for swin_l and swin_h",
        ),
    ] = None,
    compile_network: Annotated[
        bool, typer.Option("--compile", help="torch.compile the network: minutes, then faster.")
    ] = False,
    licence: Annotated[
        str,
        typer.Option(
            help="Licence of the weights, for their file: MIT, ...", show_default="not stated"
        ),
    ] = _DEFAULT.licence,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do 4 steps, print memory and time, write nothing.")
    ] = False,
    version: VersionOption = False,
) -> None:
    """Pre-train an encoder on a volume store."""
    if device is None:
        device = _default_device()
    settings = PretrainSettings(
        encoder=encoder,
        steps=steps,
        batch_size=batch_size,
        crop_size=parse_crop_size(crop_size),
        learning_rate=learning_rate,
        warmup_steps=warmup_steps,
        weight_decay=weight_decay,
        gradient_clip=gradient_clip,
        reconstruction_weight=reconstruction_weight,
        log_ratio_weight=log_ratio_weight,
        **_recipe(recipe, mask_ratio=mask_ratio, has_skips=has_skips),
        decoder_width=decoder_width,
        reconstruction_scales=reconstruction_scales,
        balance=balance,  # type: ignore[arg-type]  # checked by the settings
        held_out=held_out,
        seed=seed,
        precision=precision,  # type: ignore[arg-type]  # checked by the settings
        device=device,
        workers=workers if workers is not None else (0 if device == "cpu" else 4),
        checkpoint_every=checkpoint_every,
        picture_every=picture_every,
        recompute_activations=recompute_activations,
        licence=licence.strip(),
        compile_network=compile_network,
    )
    _run(store, output, settings, is_dry=dry_run)


def _run(store: Path, output: Path, settings: PretrainSettings, *, is_dry: bool) -> None:
    """Do what the command was asked for; imports what is slow to import."""
    from nnunet_triad.training.distributed import join_process_group
    from nnunet_triad.training.memory import explain_out_of_memory
    from pretraining.crop_fit import share_outside
    from pretraining.dry_run import measure
    from pretraining.loop import pretrain
    from pretraining.pictures import PROGRESS_NAME, RECONSTRUCTIONS_NAME
    from pretraining.pretrain_data import load_data

    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: expected a folder, got a file; choose another OUTPUT")
    with join_process_group(settings.device) as group, explain_out_of_memory(_MEMORY_ADVICE):
        data = load_data(store, settings)
        padding = share_outside(data.table.shape, settings.crop_size)
        if padding and group.is_main:
            typer.echo(
                f"note: {padding:.0%} of each crop of {settings.crop_size} voxels is padding, as "
                f"the volumes have {data.table.shape}",
                err=True,
            )
        if is_dry:
            report = measure(data, settings, group)
            if group.is_main:
                typer.echo(report)
            return
        try:
            path = pretrain(data, output, settings=settings, group=group)
        except TrainingStopped as stop:
            if group.is_main:
                typer.echo(f"{stop}; run the same command again to continue", err=True)
            sys.exit(EXIT_STOPPED)
    if group.is_main:
        pictures = f"{output / RECONSTRUCTIONS_NAME}, {output / PROGRESS_NAME}"
        typer.echo(f"encoder: {path}\npictures: {pictures}")


def _recipe(name: str, **chosen: Any) -> dict[str, Any]:
    """Return a recipe's settings, but for those that were chosen one by one."""
    if name not in RECIPES:
        raise UserError(f"--recipe: expected {' or '.join(RECIPES)}, got {name!r}")
    return {**RECIPES[name], **{key: value for key, value in chosen.items() if value is not None}}


def parse_crop_size(text: str) -> Triple:
    """Return voxels along x, y and z from "96" or "96,96,64".

    Raises:
        UserError: it is neither one whole number nor three.
    """
    parts = text.split(",")
    if len(parts) not in (1, 3) or not all(part.strip().isdigit() for part in parts):
        raise UserError(f"crop-size: expected one whole number, or three as 96,96,64, got {text}")
    x, y, z = (int(part) for part in (parts * 3 if len(parts) == 1 else parts))
    return x, y, z


def _default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def main() -> None:
    """Run the command."""
    run_app(app)
