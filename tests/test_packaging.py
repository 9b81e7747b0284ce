import re
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOP_LEVEL = ("nnunet_triad", "pretraining", "registration", "classification")


def read_setup() -> ConfigParser:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return setup


def test_every_package_on_disk_is_installed():
    on_disk = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in TOP_LEVEL
        for path in (ROOT / top).rglob("__init__.py")
    }
    listed = set(read_setup()["options"]["packages"].split())
    assert listed - on_disk == {"nnunetv2.training.nnUNetTrainer.variants.triad"}
    assert on_disk - listed == set()


def test_every_command_has_its_function():
    scripts = read_setup()["options.entry_points"]["console_scripts"].strip().splitlines()
    for line in scripts:
        module, function = line.split("=")[1].strip().split(":")
        assert callable(getattr(import_module(module), function))


def test_version_and_date_are_the_same_wherever_they_stand():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.search(r"^## (\d\S+) \((\d{4}-\d\d-\d\d)\)$", changelog, re.MULTILINE)
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    fields = dict(re.findall(r"^(version|date-released): (\S+)$", citation, re.MULTILINE))
    assert released is not None
    assert fields == {"version": released[1], "date-released": released[2]}
    assert read_setup()["metadata"]["version"] == released[1]
