"""Folders of networks that need no PyTorch project: ONNX with a runner, TorchScript."""

import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_triad.errors import UserError
from nnunet_triad.export.about import describe
from nnunet_triad.export.check import check_same
from nnunet_triad.export.model_folder import TrainedModel
from nnunet_triad.files import check_folder, only_process, sha256, write_json
from nnunet_triad.training.memory import GIB

OPSET = 18
_RUNNER = Path(__file__).parent / "predict.py"

Say = Callable[[str], None]
Run = Callable[[Tensor], Tensor]


def export_onnx(model: TrainedModel, output: Path, say: Say) -> None:
    """Write a folder: a network a fold, `model.json`, and `predict.py`, which runs them.

    Args:
        model: of any trainer whose network takes windows of one size.
        output: the folder, which is not there yet.
        say: is told what is done.

    Raises:
        UserError: the runner cannot do what the plan asks for, or a network computes otherwise.
    """
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--format onnx: expected onnx, onnxruntime and onnxscript, got none ({error}); "
            "pip install 'triad-nnunet[export]'"
        ) from error
    about = {**describe(model), "opset": OPSET, "tile_step_size": 0.5}
    with _folder(output) as folder:
        _write_networks(model, folder, about, say, ending="onnx", write=_write_onnx)
        shutil.copyfile(_RUNNER, folder / "predict.py")


def export_torchscript(model: TrainedModel, output: Path, say: Say) -> None:
    """Write a folder: a traced module a fold, and `model.json`, which says what goes around it.

    Args:
        model: as for `export_onnx`.
        output: the folder, which is not there yet.
        say: is told what is done.

    Raises:
        UserError: a network computes otherwise.
    """
    with _folder(output) as folder:
        _write_networks(model, folder, describe(model), say, ending="pt", write=_write_traced)


def _write_networks(
    model: TrainedModel,
    folder: Path,
    about: dict[str, Any],
    say: Say,
    *,
    ending: str,
    write: Callable[[nn.Module, Tensor, Path], Run],
) -> None:
    networks = []
    for fold in model.checkpoints:
        say(f"fold {fold}: writing")
        path = folder / (
            f"model.{ending}" if len(model.checkpoints) == 1 else f"fold_{fold}.{ending}"
        )
        network = model.load(fold)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries' own code, which is traced
            run = write(network, model.example(0), path)
        # another window than the one that was traced
        found = check_same(path.name, network, run, model.example(1), exact=False)
        say(f"fold {fold}: checked, {found}")
        networks.append({"fold": fold, "file": path.name, "sha256": sha256(path), "check": found})
    write_json(folder / "model.json", {**about, "networks": networks})


def _write_onnx(network: nn.Module, image: Tensor, path: Path) -> Run:
    import onnxruntime

    size = sum(value.nbytes for value in network.state_dict().values())
    torch.onnx.export(
        network,
        (image,),
        path,
        input_names=["image"],
        output_names=["logits"],
        opset_version=OPSET,
        dynamo=True,
        external_data=size > 1.8 * GIB,  # a file of protobuf's holds 2 GiB
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda window: torch.from_numpy(session.run(None, {"image": window.numpy()})[0])


def _write_traced(network: nn.Module, image: Tensor, path: Path) -> Run:
    try:
        with torch.inference_mode():
            traced = torch.jit.trace(network, image, check_trace=False)
    except (TypeError, RuntimeError) as error:
        raise UserError(
            f"--format torchscript: expected a network that PyTorch can trace, got one that it "
            f"cannot ({error!s:.100}); use --format onnx"
        ) from error
    torch.jit.save(traced, path)
    read: Run = torch.jit.load(path)
    return read


@contextmanager
def _folder(output: Path) -> Iterator[Path]:
    """Yield a folder beside `output`, which it becomes when the block succeeds.

    A kill leaves it; the next call empties it.
    """
    check_folder(output)
    folder = output.with_name(f".{output.name}.unfinished")
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / ".lock"
    with only_process(lock, refusal=f"{output}: another process exports to it; wait for it"):
        try:
            for left in set(folder.iterdir()) - {lock}:
                left.unlink()
            yield folder
            lock.unlink(missing_ok=True)
            folder.replace(output)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
