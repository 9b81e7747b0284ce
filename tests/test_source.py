"""What must hold of every source file of the packages."""

import ast
import re
import sys
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("nnunet_triad", "pretraining", "registration", "classification")
FILES = sorted(path for top in PACKAGES for path in (ROOT / top).rglob("*.py"))
# imported only by an adapter that says, in one line, what to install when it is missing
OPTIONAL = {"ants", "icon_registration", "itk", "unigradicon", "nppy", "umap"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def has_no_encoding(call: ast.Call) -> bool:
    """Tell whether a call opens a text file with the locale's encoding."""
    if not isinstance(call.func, ast.Attribute | ast.Name):
        return False
    function = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id
    if function not in ("read_text", "write_text", "open"):
        return False
    if any(keyword.arg == "encoding" for keyword in call.keywords):
        return False
    if function != "open":
        return True
    if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
        module = call.func.value.id
        if module in ("os", "gzip", "igzip", "blosc2", "opener") or module[0].isupper():
            return False  # binary by default, an URL, or a class method of another meaning
    modes = [*call.args[: 2 if isinstance(call.func, ast.Name) else 1]]
    modes += [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    return not any(isinstance(mode, ast.Constant) and "b" in str(mode.value) for mode in modes)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("path.read_text()", True),
        ("path.read_text(encoding='utf-8')", False),
        ("path.write_text('a')", True),
        ("path.open('a', newline='')", True),
        ("path.open()", True),
        ("open(path)", True),
        ("open(path, 'w', encoding='utf-8')", False),
        ("path.open('rb')", False),
        ("gzip.open(path)", False),
        ("VolumeStore.open(path)", False),
    ],
)
def test_search_for_encodings_finds_what_lacks_one(source, expected):
    assert has_no_encoding(ast.parse(source, mode="eval").body) is expected


def test_text_files_do_not_depend_on_the_locale():
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Call) and has_no_encoding(node)
    ]
    assert found == []


# package data, and the kernel's
READ_TEXT = {
    *("nnunet_triad/texts.py", "nnunet_triad/training/memory.py"),
    *("nnunet_triad/benchmark/paper.py", "pretraining/curation/catalogue.py"),
}


def test_texts_are_read_with_a_bound():
    found = {name_of(path) for path in FILES if ".read_text(" in path.read_text(encoding="utf-8")}
    assert found == READ_TEXT


def imported() -> dict[str, str]:
    """Top-level module -> a file that imports it."""
    found = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names.append(str(node.module))
            found.update({name.partition(".")[0]: name_of(path) for name in names})
    return found


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> set[str]:
    """Return the distributions that an installation and the extras `fetch` and `export` bring."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = setup["options.extras_require"]
    lines = setup["options"]["install_requires"] + extras["fetch"] + extras["export"]
    names = {normalized(re.split(r"[\[<>=!~; ]", line)[0]) for line in lines.split("\n") if line}
    with_extras = {
        f"{normalized(line.partition('[')[0])}-{line.partition('[')[2].partition(']')[0]}"
        for line in lines.split("\n")
        if "[" in line
    }
    return names | ({"distributed"} if "dask-distributed" in with_extras else set())


def test_every_imported_package_is_declared():
    own = {*PACKAGES, *sys.stdlib_module_names, *OPTIONAL}
    distributions = packages_distributions()
    undeclared = {
        module: path
        for module, path in imported().items()
        if module not in own
        and not {normalized(name) for name in distributions.get(module, [module])} & declared()
    }
    assert undeclared == {}


def test_only_the_families_ask_which_family_an_encoder_is_of():
    asks = re.compile(r"\bfamily(\.name)? *(==|!=|in\b|not in\b)|FAMILIES\[")
    found = [
        f"{name_of(path)}:{number}"
        for path in FILES
        if "architectures" not in path.parts
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if asks.search(line) and not re.search(r"\bfor family in\b", line)
    ]
    assert found == []


# Calls by which nibabel and SimpleITK read or write an image file.
IMAGE_FILES = re.compile(
    r"\b(nib|nibabel)\.(load|save)\b|\b(Nifti1Image|from_filename|to_filename|from_stream)\b"
    r"|\b(ReadImage|WriteImage|ImageFileReader|ImageFileWriter|ImageSeriesReader)\b"
)
ELSEWHERE = {
    "classification/datasets/nppy_worker.py",  # runs in an environment without this project
    "nnunet_triad/export/predict.py",  # goes where this project is not installed
}


def test_only_images_reads_and_writes_image_files():
    found = {
        name_of(path)
        for path in FILES
        if IMAGE_FILES.search(path.read_text(encoding="utf-8"))
        and path.parent != ROOT / "nnunet_triad" / "images"
    }
    assert found == ELSEWHERE
