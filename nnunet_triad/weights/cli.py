"""`triad-weights`: what a weights file is."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nnunet_triad.cli import VersionOption, make_app, run_app
from nnunet_triad.weights.file import EncoderWeights
from nnunet_triad.weights.locate import load_weights

app = make_app("Inspect files of pre-trained encoder weights.")


@app.callback()
def _options(version: VersionOption = False) -> None:
    pass


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="A .safetensors file, or a PyTorch checkpoint.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor.")] = False,
) -> None:
    """Print what a weights file holds: architecture, pre-training, size, hash, licence."""
    weights = load_weights(file)
    fields = _describe(weights)
    if as_json:
        shapes = {name: list(tensor.shape) for name, tensor in weights.tensors.items()}
        print(json.dumps({**fields, "tensors": shapes} if tensors else fields, indent=2))
        return
    lines = {name: _as_text(value) for name, value in fields.items()}
    if tensors:
        lines |= {name: _times(tensor.shape) for name, tensor in weights.tensors.items()}
    width = max(map(len, lines))
    for name, text in lines.items():
        print(f"{name:{width}}  {text}")


def _describe(weights: EncoderWeights) -> dict[str, object]:
    info = asdict(weights.info)
    spec = info.pop("spec")
    return {
        "file": str(weights.path),
        "sha256": weights.sha256,
        "architecture": spec["name"],
        "parameters": weights.num_parameters,
        "number_of_tensors": len(weights.tensors),
        **{name: value for name, value in spec.items() if name != "name" and value},
        **info,
    }


def _as_text(value: object) -> str:
    if isinstance(value, tuple) and isinstance(value[0], tuple):
        return ", ".join(_times(item) for item in value)
    if isinstance(value, tuple):
        return ", ".join(_as_text(item) for item in value)
    if value is None:
        return "unknown"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _times(sizes: Iterable[int]) -> str:
    return "x".join(str(size) for size in sizes)


def main() -> None:
    """Run the command."""
    run_app(app)
