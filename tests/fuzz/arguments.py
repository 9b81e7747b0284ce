"""Command lines that nobody would type, made of a command's own options."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

from nnunet_triad.training.settings import Option, options_of

NUMBERS = (
    *("0", "1", "2", "3", "8", "32", "64", "96", "-1", "-0", "0.5", "1e-3", "1e309", "nan", "inf"),
    *(
        "-inf",
        "9" * 30,
        "-" + "9" * 30,
        "0x10",
        "1_000",
        "\u0661\u0662",
        "\u00b2",
        "1,2,3",
        "64,64,64",
    ),
    *("1,", ",,", "1;2", "NaN,1", "0,0,0", "1e3,1e3,1e3", "-5,-5,-5", "4294967296", "1.0"),
)
WORDS = (
    *("", " ", ".", "..", "-", "--", "=", "None", "true", "\n", "a\tb", "%s", "{}", "\\", "*"),
    *(
        "\u00e9\u4e2d\u06dd",
        "\U0001f9e0",
        "\u202e",
        "\udcff",
        "x" * 300,
        "a/" * 60,
        "cpu",
        "cuda",
        "mps",
        "hf://a/b",
    ),
    *(
        "hf:/a/b/c@d",
        "hf://",
        "scratch",
        "triad",
        "all",
        "none",
        "test",
        "DICOM",
        "nnUNetTrainerTriadSwinT",
    ),
)
MISSING = (
    *("missing", "missing/deeper", "text.txt/below", "n" * 300, "empty/new", "\u00fc \u4e2d.nii"),
    *("new.nii.gz", "new.csv", "new.png", "new.html", "new.safetensors", "new.pth"),
)


def _is_inside(text: str) -> bool:
    """Keep what a command writes inside of its folder; the system gives no argument with NUL."""
    return not text.startswith(("/", "~")) and ".." not in text and "\0" not in text


def _words_of(text: str | None) -> list[str]:
    """The words of a help text, among which are the choices of an option."""
    return [word.strip(".") for word in re.findall(r"[\w.\-]+", text or "") if _is_inside(word)]


def _kind(param: Any) -> str:
    """Return what a parameter's values are taken for, in typer's words; click's in old versions."""
    if hasattr(param, "type"):
        return str(param.type.name)
    return str(param.type_descriptor.annotation).lower()


def _any_text() -> st.SearchStrategy[str]:
    return st.text(max_size=8).filter(_is_inside)


# Good values of arguments and options by name, so that many calls get beyond the first checks.
FITTING = {
    "manifest": ("classes.csv", "pairs.csv"),
    "inputs": ("images/a.nii.gz", "images/b.nii.gz", "classes.csv"),
    "model": ("classify", "classify/model.pt", "register", "register/model.safetensors", "empty"),
    "store": ("store", "empty", "new"),
    "file": ("weights/triad_swin_t.safetensors", "weights/foreign.pt"),
    "init": ("weights/triad_swin_t.safetensors", "weights/foreign.pt", "scratch"),
    "source": ("images", "data", "store", "empty"),
    "moving": ("images/a.nii.gz",),
    "fixed": ("images/b.nii.gz", "images/a.nii.gz"),
    "field": ("field.nii.gz",),
    "labels": ("images/a_seg.nii.gz", "ixi", "set.json"),
    "fixed_labels": ("images/b_seg.nii.gz",),
    "points": ("points.csv",),
    "results": ("results.csv",),
    "runs_file": ("runs.csv",),
    "from_file": ("list.json", "patients.csv"),
    "patients": ("patients.csv",),
    "figure": ("picture.png",),
    "folder": ("empty", "new"),
    "raw": ("nnUNet_raw",),
    "mask": ("{stem}_seg.nii.gz", "label"),
    "features": ("new.csv",),
    "output": ("new.nii.gz", "new.safetensors", "new.pth", "new.csv", "new.html", "new", "empty"),
    "path": ("new.png", "new.pdf"),
    "first": ("transmorph_t/scratch",),
    "second": ("transmorph_t/triad",),
    "shape": ("8,8,8", "64,64,32"),
    "crop_size": ("32", "32,64,32"),
    "size": ("32", "64"),
    "device": ("cpu",),
    "dataset": ("501", "BraTS21", "ixi", "oasis", "acdc", "adni", "breastdm", "luna16", "lld-mmri"),
    "network": ("transmorph_t", "swinunetr_t"),
    "encoder": ("unet", "swin_t"),
    "reference": ("before", "affine", "syn"),
    "trainer": ("nnUNetTrainerTriadSwinT", "nnUNetTrainerPretrainedUNet"),
    "task": ("lesion", "sequence", "segmentation", "registration"),
    "repository": ("a/b",),
    "licence": ("MIT",),
}


def _values(param: Any, paths: Sequence[str]) -> st.SearchStrategy[str]:
    """Values of an option or argument: some that it wants, some that it does not."""
    junk = st.one_of(
        st.sampled_from(NUMBERS),
        st.sampled_from([word for word in WORDS if word != ".."]),
        st.sampled_from([*paths, *MISSING]),
        _any_text(),
    )
    kind = _kind(param)
    if re.search(r"\bint", kind):
        wanted = st.one_of(st.sampled_from(NUMBERS), st.integers(-3, 200).map(str))
    elif "float" in kind:
        wanted = st.one_of(st.sampled_from(NUMBERS), st.floats(-1, 100).map(str))
    elif "path" in kind or "file" in kind:
        wanted = st.sampled_from([*paths, *MISSING])
    else:
        choices = [*_words_of(getattr(param, "help", None)), *_words_of(str(param.default))]
        wanted = st.sampled_from([word for word in choices if word] or ["x"])
    fitting = st.sampled_from(FITTING[param.name]) if param.name in FITTING else wanted
    return _one_in(12).flatmap(lambda is_odd: junk if is_odd else _mostly(fitting, wanted))


def _mostly(
    first: st.SearchStrategy[str], second: st.SearchStrategy[str]
) -> st.SearchStrategy[str]:
    return _one_in(6).flatmap(lambda is_odd: second if is_odd else first)


def _one_in(number: int) -> st.SearchStrategy[bool]:
    """True once in so many draws; hypothesis prefers the ends of a range of integers."""
    return st.sampled_from([False] * (number - 1) + [True])


def _option(param: Any, paths: Sequence[str]) -> st.SearchStrategy[list[str]]:
    names = st.sampled_from([*param.opts, *param.secondary_opts])
    if param.is_flag:
        return names.map(lambda name: [name])
    values = _values(param, paths)
    apart = st.tuples(names, values).map(list)
    joined = st.tuples(names, values).map(lambda pair: [f"{pair[0]}={pair[1]}"])
    return st.one_of(apart, apart, joined)


def _one_command(
    draw: Callable[[st.SearchStrategy[Any]], Any],
    command: Any,
    paths: Sequence[str],
) -> list[str]:
    pieces: list[list[str]] = []
    for param in command.params:
        is_argument = param.param_type_name == "argument"
        if is_argument:
            number = draw(st.sampled_from([1] * 20 + [0, 2] + [2] * 10 * (param.nargs == -1)))
            pieces += [[draw(_values(param, paths))] for _ in range(number)]
        elif param.required and not draw(_one_in(20)):
            pieces.append(draw(_option(param, paths)))
    options = [param for param in command.params if param.param_type_name == "option"]
    for param in draw(st.lists(st.sampled_from(options), max_size=4)) if options else []:
        pieces.append(draw(_option(param, paths)))
    if draw(_one_in(25)):
        pieces.append([draw(_any_text())])
    if draw(_one_in(10)):
        pieces = draw(st.permutations(pieces))
    return [text for piece in pieces for text in piece]


def beyond(one: Option) -> list[str]:
    """Return numbers outside of an option's range, made of what its field declares."""
    bounds = one.bounds
    values = [str(bounds[name]) for name in ("above", "below") if name in bounds]
    values += [str(bounds["low"] - 1)] if "low" in bounds else ["-" + "9" * 30]
    values += [str(bounds["high"] + 1)] if bounds.get("high", math.inf) < math.inf else []
    values += ["nan", "-inf"]
    values += ["inf", "1e309", "9" * 400] if math.inf not in bounds.values() else []
    values += [str(2**63)] if one.type is int else []
    values = [text for text in values if one.type is float or text.lstrip("-").isdigit()]
    return [",".join([text] * (one.length or 1)) for text in values]


def ranges(command: Any) -> Iterator[tuple[list[str], str, Option]]:
    """Yield (a call that needs only this option, its name, the option) of numbers with a range."""
    for name, inner in getattr(command, "commands", {"": command}).items():
        settings = getattr(inner.callback, "settings", [])
        options = {one.name: one for group in settings for one in options_of(group)}
        call = [name] * bool(name)
        for param in inner.params:
            if param.required:
                call += [*param.opts[:1] * (param.param_type_name == "option"), "x"]
        for param in inner.params:
            one = options.get(param.name)
            if one is not None and one.type in (int, float):
                yield call, param.opts[0], one


def arguments(command: Any, paths: Sequence[str]) -> st.SearchStrategy[list[str]]:
    """Argument lists of a program.

    Args:
        command: click's command or group.
        paths: of files that are there.
    """
    commands = getattr(command, "commands", {})

    @st.composite
    def draw_arguments(draw: Callable[[st.SearchStrategy[Any]], Any]) -> list[str]:
        if not commands:
            return _one_command(draw, command, paths)
        name = draw(st.sampled_from(sorted(commands)))
        rest = _one_command(draw, commands[name], paths)
        if draw(_one_in(40)):
            name = draw(st.one_of(_any_text(), st.sampled_from(["--version", "--help", "-x", ""])))
        return [name, *rest]

    return draw_arguments()
