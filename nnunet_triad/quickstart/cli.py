"""`triad-quickstart`: from unlabelled and labelled images to a model and a verdict."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnunet_triad.cli import VersionOption, make_app, run_app, takes_settings
from nnunet_triad.errors import UserError
from nnunet_triad.files import check_folder, is_blank, only_process, write_json
from nnunet_triad.quickstart.settings import QuickstartSettings
from nnunet_triad.steps import environment, run_steps, say, show_variables
from nnunet_triad.texts import read_json

if TYPE_CHECKING:
    from nnunet_triad.quickstart.inputs import Inputs
    from nnunet_triad.quickstart.sizes import Sizes

_SETTINGS = "quickstart.json"

_HELP = """Pre-train on unlabelled images, train nnU-Net with and without it, and compare.

Prints every command before it runs it. Run the same command again to go on after a stop: steps that
are finished are skipped. By default it takes minutes on a CPU, which is a first look.
"""

app = make_app(_HELP)


@app.command(help=_HELP)
@takes_settings()
def quickstart(
    images: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGES", help="Folder of unlabelled images: NIfTI, BIDS or DICOM, nested."
        ),
    ],
    labelled: Annotated[
        Path,
        typer.Argument(
            metavar="LABELLED",
            help="Folder of a few labelled ones, NIfTI: imagesTr and labelsTr, images and labels, "
            "NAME and NAME_seg side by side, or a folder a case.",
        ),
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="Where everything goes; made when missing.")
    ],
    *,
    settings: QuickstartSettings,
    version: VersionOption = False,
) -> None:
    """Run the quickstart."""
    from nnunet_triad.architectures import encoder_spec
    from nnunet_triad.quickstart.inputs import read_inputs
    from nnunet_triad.quickstart.sizes import choose_sizes
    from nnunet_triad.quickstart.steps import num_steps, steps, weights_of
    from nnunet_triad.training.device import check_device

    images, labelled, output = images.resolve(), labelled.resolve(), output.resolve()
    _check_places(images, labelled, output)
    inputs = read_inputs(images, labelled)
    if settings.device != "cpu":
        check_device(settings.device)  # imports PyTorch, whose memory the trainings may want
    sizes = choose_sizes(
        inputs.scans,
        encoder_spec(settings.encoder),
        max_voxels=settings.max_voxels,
        device=settings.device,
    )
    output.mkdir(parents=True, exist_ok=True)
    refusal = (
        f"{output}: expected a folder that no other triad-quickstart works in, got one that one "
        "does; wait until it ends"
    )
    with only_process(output / ".lock", refusal=refusal):
        _begin(output, inputs, settings)
        _tell(inputs, settings, sizes)
        variables = environment(
            output, weights=weights_of(output, settings), device=settings.device
        )
        show_variables(variables)
        finished = output / ".finished"
        finished.mkdir(exist_ok=True)
        processes = int(variables["nnUNet_def_n_proc"])
        run_steps(
            steps(output, inputs, settings, sizes, processes=processes),
            finished,
            variables,
            num_steps=num_steps(settings),
        )
    _conclude(output, settings)


def _check_places(images: Path, labelled: Path, output: Path) -> None:
    check_folder(output)
    for name, folder in (("IMAGES", images), ("LABELLED", labelled)):
        if folder in (output, *output.parents) or output in folder.parents:
            raise UserError(
                f"OUTPUT: expected a folder outside of {name}, got {output}; name another one"
            )


def _begin(output: Path, inputs: "Inputs", settings: QuickstartSettings) -> None:
    """Write what the run is, or refuse a folder of another one."""
    path = output / _SETTINGS
    folders = {"images": str(inputs.images), "labelled": str(inputs.labelled)}
    if not path.exists():
        if not is_blank(output):
            raise UserError(
                f"{output}: expected a new or an earlier quickstart's folder, got other files; "
                "choose another OUTPUT"
            )
        write_json(path, {**folders, **settings.to_dict()})
        return
    try:
        begun = dict(read_json(path))
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: expected the settings of a run, got {error}") from error
    name = next((name for name in folders if begun.get(name) != folders[name]), None)
    name = name or settings.differing_from(begun)
    if name is not None:
        got = {**folders, **settings.to_dict()}[name]
        option = name.upper() if name in folders else f"--{name.replace('_', '-')}"
        raise UserError(
            f"{option}: expected {begun.get(name)!r}, with which {output} was begun, got {got!r}; "
            "use that, or choose another OUTPUT"
        )


def _tell(inputs: "Inputs", settings: QuickstartSettings, sizes: "Sizes") -> None:
    """Say what will be done of what, how long it takes, and what is left out."""
    from nnunet_triad.quickstart.estimate import estimate_minutes
    from nnunet_triad.quickstart.steps import shared_names_warning

    num_cases = len(inputs.labels)
    say(
        f"Labelled cases: {num_cases}, {inputs.num_channels} channel"
        f"{'s' if inputs.num_channels > 1 else ''} each. Images of about "
        f"{' x '.join(map(str, sizes.shape))} voxels."
    )
    if sizes.target_spacing_mm:
        z, y, x = sizes.target_spacing_mm
        print(f"They are made coarser, to {x:g} x {y:g} x {z:g} mm (--max-voxels).")
    if not settings.init:
        why = (
            "It showed no gain in our studies"
            if inputs.describes
            else "These images come without descriptions"
        )
        print(f"The log-ratio loss is left out. {why}; triad-pretrain has it.")
    if inputs.shared_names:
        print(shared_names_warning(inputs))
    minutes = estimate_minutes(settings, sizes, num_cases=num_cases)
    if minutes is None:
        print("How long it takes has not been measured for this device and encoder.")
    else:
        print(
            f"On this CPU, if it is idle: about {sum(minutes):.0f} minutes, {minutes[0]:.0f} of "
            f"them pre-training, {minutes[1]:.0f} nnU-Net."
        )


def _conclude(output: Path, settings: QuickstartSettings) -> None:
    """Print the verdict, how to use the models, and what a serious run would be."""
    from nnunet_triad.quickstart.steps import predict_command
    from nnunet_triad.quickstart.verdict import verdicts

    say("\n".join(verdicts(output / "report.csv")))
    say(
        f"The report: {output / 'report.html'}\n"
        "To segment new images, NAME_0000.nii.gz, with the variables above:\n"
        f"$ {predict_command(output, settings)}"
    )
    say(
        "This was a first look. A serious run: a GPU, another OUTPUT, "
        "--steps 100000 --variant '', and ten labelled cases or more."
    )


def main() -> None:
    """Run the command."""
    run_app(app)
