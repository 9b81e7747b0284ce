"""nnU-Net finds the trainers after either way of installing, in an environment of its own.

The environment has nnU-Net and this project in its own site-packages; all else (PyTorch, ...)
comes from the environment that runs the tests, whose site-packages it only appends to its path.
"""

import json
import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SITE_PACKAGES = Path(sysconfig.get_paths()["purelib"])
SOURCES = ("nnunet_triad", "pretraining", "registration", "classification")
FILES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")
NAMES = [
    f"nnUNetTrainer{initialization}{network}"
    for initialization in ("Scratch", "VoCo", "Triad")
    for network in ("UNet", "SwinT", "SwinB", "SwinL", "SwinH")
]
LOOK_UP = """
import json, sys
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
import nnunetv2
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = recursive_find_trainer_class_by_name(name).__name__
    except RuntimeError as error:
        found[name] = str(error)
print(json.dumps({"nnunetv2": nnunetv2.__file__, "found": found}))
"""


class Environment:
    """A virtual environment in `folder`, and a copy of the project's source beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "source"
        venv.create(folder / "venv", with_pip=False)
        self.python = folder / "venv" / "bin" / "python"
        (self.site_packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
        # a path that a .pth file appends: packages of this environment come first, and the .pth
        # files of the other one (an editable install of this project) are not read
        (self.site_packages / "others.pth").write_text(f"{SITE_PACKAGES}\n")
        for package in SITE_PACKAGES.glob("nnunetv2*"):
            shutil.copytree(
                package,
                self.site_packages / package.name,
                ignore=shutil.ignore_patterns("__pycache__", "triad"),
            )
        for name in SOURCES:
            shutil.copytree(ROOT / name, self.source / name)
        for name in FILES:
            shutil.copy(ROOT / name, self.source)

    def run(self, *args: str | Path, **variables: str) -> str:
        """Run Python in this environment; return its standard output."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "nnUNet_", "TRIAD_"))
        }
        done = subprocess.run(
            [self.python, *args],
            env={**inherited, **variables},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def pip(self, *args: str | Path) -> None:
        """Run pip, which comes from the tests' environment but works on this one."""
        self.run("-m", "pip", *args)

    def look_up(self, *names: str, **variables: str) -> dict[str, str]:
        """Run nnU-Net's search: the class name found, or nnU-Net's error, by name."""
        answer = json.loads(self.run("-c", LOOK_UP, *names, **variables).splitlines()[-1])
        assert Path(answer["nnunetv2"]).is_relative_to(self.folder)
        return answer["found"]


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    pytest.importorskip("setuptools", "68", reason="the tests' environment has no setuptools >= 68")
    pytest.importorskip("pip", reason="the tests' environment has no pip")
    return Environment(tmp_path)


def test_regular_install_needs_no_setup_and_leaves_nothing(environment: Environment) -> None:
    environment.pip("install", "--no-deps", "--no-build-isolation", environment.source)
    shutil.rmtree(environment.source)
    assert environment.look_up(*NAMES) == {name: name for name in NAMES}
    shim = environment.site_packages / "nnunetv2/training/nnUNetTrainer/variants/triad"
    assert shim.is_dir()
    environment.pip("uninstall", "--yes", "triad-nnunet")
    assert not shim.exists()
    assert (shim.parent / "training_length").is_dir()


def test_editable_install_is_found_through_the_plugin_folder(environment: Environment) -> None:
    environment.pip("install", "--no-deps", "--no-build-isolation", "-e", environment.source)
    plugin = environment.source / "nnunet_triad" / "plugin"
    found = environment.look_up(*NAMES, nnUNet_extTrainer=str(plugin))
    assert found == {name: name for name in NAMES}


def test_search_does_not_find_the_tests_own_installation(environment: Environment) -> None:
    found = environment.look_up(NAMES[0])
    assert found[NAMES[0]].startswith(f"Could not find requested nnunet trainer {NAMES[0]}")


def test_plugin_folder_holds_the_shim_alone() -> None:
    files = {file.name for file in (ROOT / "nnunet_triad" / "plugin").glob("*.py")}
    assert files == {"__init__.py", "triad_trainers.py"}
