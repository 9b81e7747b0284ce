"""`triad-weights`: what a weights file is, whether it fits a plan, and other formats of it."""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnunet_triad.cli import DeviceOption, JsonOption, VersionOption, make_app, run_app
from nnunet_triad.errors import UserError

if TYPE_CHECKING:
    from nnunet_triad.weights.file import EncoderWeights
    from nnunet_triad.weights.fingerprint import Fingerprint
    from nnunet_triad.weights.glance import Glance
    from nnunet_triad.weights.stated import Stated

_MANY_PARAMETERS = 100_000_000  # from which on `verify` takes long enough to say so

app = make_app(
    "Inspect, check, verify, convert and share files of pre-trained encoder weights. FILE is a "
    ".safetensors file of this project, a checkpoint of VoCo, SuPreM, Swin UNETR, nnssl/OpenMind, "
    "nnU-Net or MONAI, or a name on the Hugging Face hub: hf://ORG/NAME[/FILE][@REVISION]."
)

FileArgument = Annotated[str, typer.Argument(help="A weights file, or hf://ORG/NAME[/FILE].")]
ChannelsOption = Annotated[
    int | None, typer.Option(min=1, max=1024, help="Adapt the stem to this many input channels.")
]

# What a file cannot say itself.
OriginOption = Annotated[
    str | None,
    typer.Option(
        help="Whose the weights are, of a file that does not say: triad, voco, suprem, ...; "
        "without: what TRIAD_ORIGIN names."
    ),
]
MergingOption = Annotated[
    str | None,
    typer.Option(
        help="How a Swin encoder merges patches, where it is not known: old (MONAI before 1.5.0) "
        "or new."
    ),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        help="Which state dict of the file, dotted where one lies in another; without: a moving "
        "average where there is one."
    ),
]


@app.callback()
def _options(version: VersionOption = False) -> None:
    pass


@app.command()
def show(
    file: FileArgument,
    as_json: JsonOption = False,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor.")] = False,
    origin: OriginOption = None,
    merging: MergingOption = None,
    key: KeyOption = None,
) -> None:
    """Print what a weights file holds: source, architecture, pre-training, size, hash, licence."""
    weights = _look(file, _stated(origin, merging, key))
    fields = _describe(weights)
    if as_json:
        shapes = {name: list(shape) for name, shape in weights.shapes.items()}
        print(json.dumps({**fields, "tensors": shapes} if tensors else fields, indent=2))
        return
    lines = {name: _as_text(value) for name, value in fields.items()}
    if tensors:
        lines |= {name: _times(shape) for name, shape in weights.shapes.items()}
    width = max(map(len, lines))
    for name, text in lines.items():
        print(f"{name:{width}}  {text}")


@app.command()
def catalogue(as_json: JsonOption = False) -> None:
    """List published encoders: name, source, file, encoder, data, licence, where."""
    from nnunet_triad.weights.catalogue import entries

    rows = [entry.to_dict() for entry in entries()]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    columns = ("name", "source", "encoder", "size", "data", "licence", "where")
    widths = {column: max(len(row[column]) for row in rows) for column in columns}
    for row in ({column: column for column in columns}, *rows):
        print("  ".join(f"{row[column]:{widths[column]}}" for column in columns).rstrip())


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Of `triad-weights catalogue`, such as voco-b.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="A folder; without: the cache that trainings use.")
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Where the licence forbids something.")
    ] = False,
) -> None:
    """Download a published encoder, resumed and checked; its name then goes for its path."""
    from nnunet_triad.weights import catalogue as published

    entry = published.find_entry(name)
    print(f"licence: {entry.licence or 'not stated'}", file=sys.stderr)
    print(published.fetch(name, folder=to, accepts_licence=accept_licence))


@app.command()
def check(
    dataset: Annotated[str, typer.Option("-d", "--dataset", help="Id or name, as in nnU-Net.")],
    trainer: Annotated[str, typer.Option("-tr", "--trainer", help="nnUNetTrainerTriadSwinB, ...")],
    file: Annotated[
        str | None,
        typer.Argument(help="A weights file or a folder; without: what TRIAD_WEIGHTS names."),
    ] = None,
    configuration: Annotated[
        str, typer.Option("-c", "--configuration", help="As in nnU-Net.")
    ] = "3d_fullres",
    plans: Annotated[
        str, typer.Option("-p", "--plans", help="Name of the plans, as in nnU-Net.")
    ] = "nnUNetPlans",
    as_json: JsonOption = False,
    memory: Annotated[
        bool,
        typer.Option(help="Also print the expected GPU memory of the plan for each network."),
    ] = True,
    intensity: Annotated[
        bool,
        typer.Option(
            help="Fold the map between the plan's intensities and the weights' into the first "
            "layer, where there is one; --no-intensity: as a training with the suffix _asis."
        ),
    ] = True,
    origin: OriginOption = None,
    merging: MergingOption = None,
    key: KeyOption = None,
) -> None:
    """Print what a training would take from a weights file, without training."""
    from nnunet_triad.trainers.plan_check import check_plan, format_memory, memory_of_networks

    report, planned = check_plan(
        file,
        dataset=dataset,
        configuration=configuration,
        plans=plans,
        trainer=trainer,
        stated=_stated(origin, merging, key),
        maps_intensity=intensity,
    )
    note = ""
    try:
        estimates = memory_of_networks(planned) if memory else {}
    except UserError as error:
        estimates, note = {}, f"GPU memory was not counted: {error}"
    if as_json:
        print(json.dumps({**report.to_dict(), "gpu_memory": estimates}, indent=2))
        if note:
            print(note, file=sys.stderr)
        return
    print(report.summary())
    if memory:
        print(note or format_memory(planned, estimates))


@app.command()
def verify(
    file: FileArgument,
    against: Annotated[
        str | None,
        typer.Option(
            help="Another weights file, a text file with the lines (a model card, JSON), or the "
            "lines themselves."
        ),
    ] = None,
    device: DeviceOption = "",
    as_json: JsonOption = False,
    origin: OriginOption = None,
    merging: MergingOption = None,
    key: KeyOption = None,
) -> None:
    """Print what the encoder gives for a built-in image, one line a level, and compare it.

    The lines of two files, or of two machines, agree where the encoders compute the same. With
    --against each level is called same or different; exit code 0: all are the same, 1: one
    differs, 2: it could not be said.
    """
    from nnunet_triad.training.device import check_device
    from nnunet_triad.weights.fingerprint import (
        compare,
        compute_fingerprint,
        find_fingerprint,
        is_same,
        report,
    )
    from nnunet_triad.weights.locate import load_weights

    check_device(device)
    weights = load_weights(file, _stated(origin, merging, key))
    if weights.num_parameters > _MANY_PARAMETERS:
        millions = weights.num_parameters / 1e6
        print(f"computing with {millions:.0f} million parameters ...", file=sys.stderr)
    mine = compute_fingerprint(weights, device=device)
    if mine.unused:
        more = f" and {len(mine.unused) - 1} more" if len(mine.unused) > 1 else ""
        print(f"{file}: not the encoder's: {min(mine.unused)}{more}, left out", file=sys.stderr)
    if mine.assumed:
        print(
            f"{file}: {' and '.join(mine.assumed)} not stated, taken to be as this project has it",
            file=sys.stderr,
        )
    other = find_fingerprint(against, device=device) if against is not None else None
    if as_json:
        print(json.dumps(_fingerprint_fields(weights, mine, other), indent=2))
    else:
        print("\n".join(mine.lines() if other is None else report(mine, other)))
    if other is not None and not is_same(compare(mine, other)):
        raise typer.Exit(1)


@app.command()
def convert(
    file: FileArgument,
    output: Annotated[Path, typer.Argument(help="NAME.safetensors.")],
    input_channels: ChannelsOption = None,
    origin: OriginOption = None,
    merging: MergingOption = None,
    key: KeyOption = None,
) -> None:
    """Write weights of any source as this project's safetensors, licence and citation with them."""
    from nnunet_triad.weights.export import convert as write
    from nnunet_triad.weights.locate import load_weights

    write(load_weights(file, _stated(origin, merging, key)), output, input_channels=input_channels)
    print(output)


@app.command()
def export(
    file: FileArgument,
    output: Annotated[Path, typer.Argument(help="NAME.pth.")],
    to_format: Annotated[str, typer.Option("--format", help="nnssl.")] = "nnssl",
    input_channels: ChannelsOption = None,
    origin: OriginOption = None,
    merging: MergingOption = None,
    key: KeyOption = None,
) -> None:
    """Write a convolutional encoder for another project: nnssl's checkpoint, which nnU-Net reads.

    The file fits nnU-Net's nnUNetv2_preprocess_like_nnssl and nnUNetv2_train_pretrained.
    """
    from nnunet_triad.weights.export import export_nnssl
    from nnunet_triad.weights.locate import load_weights

    if to_format != "nnssl":
        raise UserError(f"--format: expected nnssl, got {to_format}")
    weights = load_weights(file, _stated(origin, merging, key))
    export_nnssl(weights, output, input_channels=input_channels)
    if weights.info.axes is None:
        print(
            f"{file}: axes not stated: written as they are, taken to be z y x as nnssl's; state "
            "them by --origin",
            file=sys.stderr,
        )
    print(output)


@app.command()
def push(
    file: FileArgument,
    repository: Annotated[str, typer.Argument(help="ORG/NAME on the hub; made when missing.")],
    licence: Annotated[
        str | None, typer.Option(help="Of the weights; needed where FILE does not say.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make it a private one.")] = False,
    revision: Annotated[str | None, typer.Option(help="A branch; without: main.")] = None,
    origin: OriginOption = None,
    merging: MergingOption = None,
    key: KeyOption = None,
) -> None:
    """Upload weights to the Hugging Face hub with a model card; log in before: hf auth login."""
    from nnunet_triad.weights.locate import load_weights
    from nnunet_triad.weights.sharing import push as upload

    name = upload(
        load_weights(file, _stated(origin, merging, key)),
        repository,
        licence=licence,
        is_private=private,
        revision=revision,
    )
    print(name)


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="hf://ORG/NAME[/FILE][@REVISION].")],
    output: Annotated[Path, typer.Argument(help="A file, or an existing folder.")],
) -> None:
    """Download weights from the Hugging Face hub."""
    from nnunet_triad.weights.sharing import pull as fetch

    print(fetch(name, output))


def _stated(origin: str | None, merging: str | None, key: str | None) -> "Stated":
    from nnunet_triad.weights.stated import Stated

    return Stated(origin=origin, merging=merging, key=key)


def _look(file: str, stated: "Stated") -> "Glance":
    """Look at a file, without PyTorch where it is of this project and nothing is stated of it."""
    from nnunet_triad.weights.glance import Glance, glance
    from nnunet_triad.weights.stated import Stated

    path = Path(file).expanduser()
    is_plain = stated.or_environment() == Stated() and path.is_file()
    if is_plain and (found := glance(path)) is not None:
        return found
    from nnunet_triad.weights.locate import load_weights

    weights = load_weights(file, stated)
    return Glance(
        path=weights.path,
        sha256=weights.sha256,
        info=weights.info,
        shapes={name: tuple(tensor.shape) for name, tensor in weights.tensors.items()},
    )


def _describe(weights: "Glance") -> dict[str, object]:
    from dataclasses import asdict

    info = asdict(weights.info)
    spec = info.pop("spec")
    return {
        "file": str(weights.path),
        "sha256": weights.sha256,
        "architecture": spec["name"],
        "parameters": weights.num_parameters,
        "number_of_tensors": len(weights.shapes),
        **{name: value for name, value in spec.items() if name != "name" and value != ()},
        **info,
    }


def _fingerprint_fields(
    weights: "EncoderWeights", mine: "Fingerprint", other: "Fingerprint | None"
) -> dict[str, object]:
    from math import isfinite

    from nnunet_triad.weights.fingerprint import compare, is_same

    fields: dict[str, object] = {
        "file": str(weights.path),
        "sha256": weights.sha256,
        "fingerprint": mine.lines(),
        "unused_tensors": sorted(mine.unused),
        "assumed": mine.assumed,
    }
    if other is None:
        return fields
    found = compare(mine, other)
    differences = {number: value if isfinite(value) else None for number, value in found.items()}
    return {**fields, "is_same": is_same(found), "differences": differences}


def _as_text(value: object) -> str:
    if isinstance(value, Mapping):
        texts = (f"{name} {_as_text(item)}" for name, item in value.items())
        return ", ".join(texts) or "not stated"
    if isinstance(value, tuple) and isinstance(value[0], tuple):
        return ", ".join(_times(item) for item in value)
    if isinstance(value, tuple):
        return ", ".join(_as_text(item) for item in value)
    if value is None or value == "":
        return "not stated"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _times(sizes: Iterable[int]) -> str:
    return "x".join(str(size) for size in sizes)


def main() -> None:
    """Run the command."""
    run_app(app)
