#!/usr/bin/env bash
# Build the wheel and the source distribution, install each in an environment of its own, and use it
# from a folder without the source: every command, nnU-Net's search, package data, a phantom.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
git archive HEAD | tar x -C "$(mkdir -p "$work/source" && echo "$work/source")"
"$python" -m venv "$work/build"
"$work/build/bin/pip" install -q build
"$work/build/bin/python" -m build -o "$work/dist" "$work/source" > /dev/null
cd "$work"
for file in dist/*.whl dist/*.tar.gz; do
    rm -rf venv phantoms
    "$python" -m venv venv
    venv/bin/pip install -q "$file"
    for command in venv/bin/triad-*; do
        "$command" --version > /dev/null
        "$command" --help > /dev/null
    done
    venv/bin/python -c '
from importlib import resources
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find
assert find("nnUNetTrainerTriadSwinB").__name__ == "nnUNetTrainerTriadSwinB"
for package, names in {
    "pretraining.curation": ("data", "templates"),
    "nnunet_triad.benchmark": ("data",),
    "nnunet_triad.datasets": ("data",),
    "nnunet_triad.weights": ("data",),
    "nnunet_triad.benchmark.report": ("templates",),
}.items():
    for name in names:
        assert any(resources.files(package).joinpath(name).iterdir()), (package, name)
'
    venv/bin/triad-dataset list 501 > /dev/null
    venv/bin/triad-benchmark plan > /dev/null
    venv/bin/triad-curate catalogue > /dev/null
    venv/bin/triad-phantom bids phantoms --subjects 2 --spacing-mm 4 > /dev/null
    test -n "$(find phantoms -name '*.nii.gz')"
    echo "$file: works"
done
