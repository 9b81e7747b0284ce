"""`triad-export`: a trained nnU-Net model for programs that have not got this project."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from nnunet_triad.cli import VersionOption, make_app, run_app
from nnunet_triad.errors import UserError

app = make_app("Export a trained nnU-Net model.")


@app.command()
def export(
    model_folder: Annotated[
        Path, typer.Argument(help="nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION.")
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUT", help="NAME.zip for nnunet, else a folder.")
    ],
    to: Annotated[
        Literal["nnunet", "onnx", "torchscript"],
        typer.Option(
            "--format",
            help="nnunet: a zip for nnU-Net without this project. onnx: networks with a runner "
            "that needs onnxruntime, NumPy and SimpleITK. torchscript: networks alone.",
        ),
    ],
    folds: Annotated[
        str | None, typer.Option(help="Such as 0,1,2; without: all that are finished.")
    ] = None,
    checkpoint: Annotated[
        Literal["final", "best"], typer.Option(help="Of each fold: checkpoint_....pth.")
    ] = "final",
    version: VersionOption = False,
) -> None:
    """Write a trained model in another format, and check that it computes the same."""
    if output.exists():
        raise UserError(f"{output}: expected a name that is free, got one that is there; remove it")
    if folds is not None and not folds.strip():
        raise UserError("--folds: expected folds such as 0,1 or all, got none")

    from nnunet_triad.export.model_folder import read_model
    from nnunet_triad.export.networks import export_onnx, export_torchscript
    from nnunet_triad.export.nnunet_zip import export_nnunet

    names = None if folds is None else [fold.strip() for fold in folds.split(",")]
    model = read_model(model_folder, folds=names, checkpoint=f"checkpoint_{checkpoint}.pth")
    _say(f"{model.trainer}, folds {', '.join(model.checkpoints)}")
    if to == "onnx":
        export_onnx(model, output, _say)
        use = [f"python {output / 'predict.py'} IMAGES_FOLDER -o FOLDER"]
    elif to == "torchscript":
        export_torchscript(model, output, _say)
        use = [f"{output / 'model.json'} says what goes before and behind the network"]
    else:
        options = export_nnunet(model, output, _say)
        use = [
            f"nnUNetv2_install_pretrained_model_from_zip {output}",
            f"nnUNetv2_predict -i IMAGES_FOLDER -o FOLDER {options}",
        ]
    print("\n".join([f"written: {output}", *use]))


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    """Run the command."""
    run_app(app)
