"""Files as they are found: what is opened, what is refused and how, and that nothing runs."""

import argparse
import collections
import datetime
import fractions
import os
import pathlib
import pickle
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.errors import UserError
from nnunet_triad.weights.checkpoint import read_checkpoint
from nnunet_triad.weights.locate import load_weights
from nnunet_triad.weights.stated import Stated
from tests.weights.conftest import SWIN_T, nnunet_network, swin_unetr

WEIGHT = {"encoder.a": torch.arange(3.0)}
ZIPPED = pytest.mark.parametrize("is_zipped", [True, False])


def save(content: object, path: Path, *, is_zipped: bool = True, protocol: int = 2) -> Path:
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=is_zipped)
    return path


@pytest.mark.parametrize(
    ("start", "what", "advice"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n",
            "a git-lfs pointer",
            "git lfs pull",
        ),
        (b"<!DOCTYPE html><html><head>", "a saved web page", "download the file itself"),
        (b"\xef\xbb\xbf\n<HTML>", "a saved web page", "download the file itself"),
        (b'<?xml version="1.0"?><Error>', "a saved web page", "download the file itself"),
        (b"\x1f\x8b\x08\x00", "a gzip archive", "gunzip"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "PyTorch weights"),
    ],
)
def test_what_is_no_checkpoint_is_called_what_it_is(
    tmp_path: Path, start: bytes, what: str, advice: str
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(start + bytes(1000))
    with pytest.raises(UserError, match=f"got {what}.*{advice}") as error:
        load_weights(path)
    assert "\n" not in str(error.value)


class Namespace_(argparse.Namespace):  # noqa: N801
    """A subclass, which is not on the list."""


class AttributeDict(dict[str, Any]):
    """As Lightning's, which keeps hyper-parameters in it."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


AttributeDict.__module__ = "lightning.fabric.utilities.data"


@ZIPPED
def test_values_of_harmless_classes_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_zipped: bool
) -> None:
    for name in ("lightning", "lightning.fabric", "lightning.fabric.utilities"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    module = SimpleNamespace(AttributeDict=AttributeDict)
    monkeypatch.setitem(sys.modules, AttributeDict.__module__, module)
    beside = {
        "args": argparse.Namespace(lr=1e-4, patch_size=(2, 2, 2), output_dir="out"),
        "windows": pathlib.PureWindowsPath("C:/data/x"),
        "here": Path("data/x"),
        "scalar": np.float32(0.5),
        "array": np.arange(6.0).reshape(2, 3),
        "flags": np.array([True, False]),
        "counts": collections.Counter("aab"),
        "ordered": collections.OrderedDict(a=1),
        "lists": collections.defaultdict(list, {"a": [1, 2]}),
        "hyper_parameters": AttributeDict(width=48),
        "when": datetime.datetime(2025, 1, 2, 3, 4),
        "took": datetime.timedelta(seconds=3),
        "device": torch.device("cpu"),
    }
    path = save({"state_dict": WEIGHT, **beside}, tmp_path / "c.pth", is_zipped=is_zipped)
    held = read_checkpoint(path)
    assert held.key == "state_dict"
    assert torch.equal(held.tensors["encoder.a"], WEIGHT["encoder.a"])
    read = dict(held.beside)
    assert np.array_equal(read.pop("array"), beside.pop("array"))
    assert np.array_equal(read.pop("flags"), beside.pop("flags"))
    assert str(read.pop("here")) == str(beside.pop("here"))
    assert {name: read[name] for name in beside} == beside
    assert type(read["lists"]) is dict
    assert type(read["hyper_parameters"]) is collections.OrderedDict


def test_windows_path_is_read_on_any_platform(tmp_path: Path) -> None:
    # pathlib refuses to make one elsewhere, so that the name is put into the pickle
    content = {"dir": pathlib.PureWindowsPath("C:/a/b")}
    path = save(content, tmp_path / "c.pth", is_zipped=False)
    path.write_bytes(path.read_bytes().replace(b"PureWindowsPath", b"WindowsPath"))
    assert read_checkpoint(path).beside["dir"] == pathlib.PureWindowsPath("C:/a/b")


class Exploit:
    """Makes a folder when it is unpickled."""

    def __init__(self, call: Callable[..., object], *arguments: str) -> None:
        self.reduced = (call, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


def exploits(target: Path) -> dict[str, Exploit]:
    python = f"open({str(target)!r}, 'w')"
    return {
        "system": Exploit(os.system, f"touch {shlex.quote(str(target))}"),
        "mkdir": Exploit(os.mkdir, str(target)),
        "builtins.eval": Exploit(eval, python),
        "builtins.exec": Exploit(exec, python),
        "check_call": Exploit(subprocess.check_call, "touch", str(target)),
    }


@pytest.mark.parametrize("writer", ["pickle", "torch", "torch before 1.6"])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", list(exploits(Path())))
def test_pickle_with_code_is_refused_by_the_code_s_name_and_runs_nothing(
    tmp_path: Path, writer: str, protocol: int, name: str
) -> None:
    target, path = tmp_path / "executed", tmp_path / "c.pth"
    content = {"args": exploits(target)[name], "state_dict": WEIGHT}
    if writer == "pickle":
        path.write_bytes(pickle.dumps(content, protocol))
    else:
        save(content, path, is_zipped=writer == "torch", protocol=protocol)
    with pytest.warns() if protocol == 4 else nullcontext(), pytest.raises(UserError) as error:
        load_weights(path)
    assert name.removeprefix("builtins.") in str(error.value)
    assert "which is refused" in str(error.value)
    assert not target.exists()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (fractions.Fraction(1, 2), "fractions.Fraction"),
        (Namespace_(a=1), "Namespace_"),
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        (re.compile("x"), "re._compile"),
    ],
)
@ZIPPED
def test_class_that_is_not_on_the_list_is_refused_by_name(
    tmp_path: Path, value: object, name: str, is_zipped: bool
) -> None:
    path = save({"state_dict": WEIGHT, "x": value}, tmp_path / "c.pth", is_zipped=is_zipped)
    with pytest.raises(UserError, match="got a pickle that needs code of its own") as error:
        load_weights(path)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_the_way_out_writes_tensors_alone(tmp_path: Path) -> None:
    network = nnunet_network(encoder_spec("unet_t"))
    content = {
        "epoch": 3,
        "half": fractions.Fraction(1, 2),
        "optimizer": {"state": {0: {"step": 1}}},
        "nested": {"state_dict": network.state_dict()},
    }
    path = save(content, tmp_path / "c.pth")
    with pytest.raises(UserError, match="write its tensors alone: python -c") as error:
        load_weights(path)
    command = shlex.split(str(error.value).split("tensors alone: ")[1])
    subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True, timeout=120)
    weights = load_weights(tmp_path / "tensors.pth")
    assert weights.info.spec == encoder_spec("unet_t")


def test_the_way_out_takes_a_pickled_network_apart(tmp_path: Path) -> None:
    path = save(nn.Sequential(nn.Conv3d(1, 2, 3)), tmp_path / "network.pth")
    with pytest.raises(UserError, match=r"torch\.nn\.modules\.\w+\.\w+, which is ref") as error:
        load_weights(path)
    command = shlex.split(str(error.value).split("tensors alone: ")[1])
    subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True, timeout=120)
    held = read_checkpoint(tmp_path / "tensors.pth")
    assert held.tensors.keys() == {"0.weight", "0.bias"}


def with_key(state: dict[str, Tensor], value: float) -> dict[str, Tensor]:
    return {name: torch.full_like(tensor, value) for name, tensor in state.items()}


STATE = {"swinViT.patch_embed.proj.weight": torch.zeros(12, 1, 2, 2, 2)}
BOTH = {"model": with_key(STATE, 1), "optimizer": {"state": {0: {"exp_avg": torch.zeros(1)}}}}


@pytest.mark.parametrize(
    ("content", "key", "is_averaged"),
    [
        ({"model_state_dict": STATE}, "model_state_dict", False),
        ({"network_weights": STATE, "epoch": 3}, "network_weights", False),
        ({**BOTH, "state_dict_ema": STATE}, "state_dict_ema", True),  # timm
        ({**BOTH, "model_ema": STATE}, "model_ema", True),
        ({**BOTH, "ema": {"decay": 0.999, "state_dict": STATE}}, "ema.state_dict", True),
        ({**BOTH, "ema": {"decay": 0.999}}, "model", False),
        ({"student": with_key(STATE, 1), "teacher": STATE}, "teacher", True),  # DINO
        ({"state": {"model": STATE}}, "state.model", False),
        ({"weights": STATE}, "weights", False),
        (STATE, "", False),
    ],
)
def test_state_dict_is_found_the_moving_average_first(
    tmp_path: Path, content: dict[str, Any], key: str, is_averaged: bool
) -> None:
    held = read_checkpoint(save(content, tmp_path / "c.pth"))
    assert (held.key, held.is_averaged) == (key, is_averaged)
    assert held.tensors.keys() == STATE.keys()


def test_moving_average_among_the_names_of_one_state_dict_is_preferred(tmp_path: Path) -> None:
    """Lightning modules with EMA-pytorch's `ema_model`."""
    names = {
        **{f"model.{name}": tensor for name, tensor in with_key(STATE, 1).items()},
        **{f"ema_model.{name}": tensor for name, tensor in STATE.items()},
    }
    path = save({"state_dict": names}, tmp_path / "c.ckpt")
    held = read_checkpoint(path)
    assert (held.key, held.is_averaged) == ("state_dict.ema_model", True)
    assert held.tensors.keys() == STATE.keys()
    other = read_checkpoint(path, key="state_dict")
    assert set(other.tensors) == set(names)


def test_key_chooses_and_an_unknown_one_lists_what_there_is(tmp_path: Path) -> None:
    network = swin_unetr(SWIN_T)
    state = network.state_dict()
    content = {"model": state, "model_ema": with_key(state, 2), "deep": {"er": with_key(state, 3)}}
    path = save(content, tmp_path / "c.pth")
    preferred = load_weights(path)
    name = "patch_embed.proj.weight"
    assert (preferred.tensors[name] == 2).all()
    assert "the moving average model_ema; others by --key: model, deep.er" in (
        preferred.info.data_summary
    )
    assert torch.equal(
        load_weights(path, Stated(key="model")).tensors[name], state[f"swinViT.{name}"]
    )
    assert (load_weights(path, Stated(key="deep.er")).tensors[name] == 3).all()
    with pytest.raises(
        UserError, match=r"--key: expected .* got best; it has model, model_ema, deep\.er$"
    ):
        load_weights(path, Stated(key="best"))


@pytest.mark.parametrize("prefix", ["model.", "net.", "model.module.", "_orig_mod.network.model."])
def test_prefixes_of_wrappers_are_looked_through(tmp_path: Path, prefix: str) -> None:
    state = {prefix + name: tensor for name, tensor in swin_unetr(SWIN_T).state_dict().items()}
    weights = load_weights(save({"state_dict": state}, tmp_path / "epoch=3.ckpt"))
    assert weights.info.spec == replace(SWIN_T, merging=None)
    assert weights.tensors.keys() == dict(build_encoder(SWIN_T).named_parameters()).keys()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_value_that_is_not_finite_is_refused_by_the_tensor_s_name(
    tmp_path: Path, value: float, suffix: str
) -> None:
    state = swin_unetr(SWIN_T).state_dict()
    state["swinViT.layers1.0.blocks.1.mlp.linear1.weight"].view(-1)[3:5] = value
    state["swinViT.layers4.0.blocks.0.norm1.bias"][0] = value
    path = tmp_path / f"w.{suffix}"
    if suffix == "pth":
        torch.save(state, path)
    else:
        save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, path)
    with pytest.raises(
        UserError,
        match=r"got 3 that are NaN or infinite, in layers1\.0\.blocks\.1\.mlp\.linear1\.weight, "
        r"layers4\.0\.blocks\.0\.norm1\.bias; the training",
    ):
        load_weights(path)


def test_many_tensors_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    state = {n: t * float("nan") for n, t in swin_unetr(SWIN_T).state_dict().items()}
    with pytest.raises(UserError, match=r"and 129 more; the training"):
        load_weights(save(state, tmp_path / "w.pth"))


def test_what_is_not_finite_outside_the_encoder_does_not_matter(tmp_path: Path) -> None:
    state = swin_unetr(SWIN_T).state_dict()
    state["out.conv.conv.bias"].fill_(float("nan"))
    assert load_weights(save(state, tmp_path / "w.pth")).info.spec.name == "swin_t"
