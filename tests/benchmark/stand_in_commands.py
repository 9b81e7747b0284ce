"""Stands in for nnU-Net's and the training commands: writes what they write, in no time.

The benchmark starts it as a launcher: stand_in_commands.py FOLDER COMMAND ARGS...; each call is
appended to FOLDER/calls.txt. FOLDER/fail holds a step to fail at, FOLDER/slow seconds to train;
FOLDER/stop: a training leaves as after a signal, once.
"""

import csv
import json
import os
import sys
import time
from pathlib import Path

LABELS = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
CASES = ("case_1", "case_2", "case_3")


def main(folder: Path, command: str, *args: str) -> int:
    with (folder / "calls.txt").open("a") as calls:
        calls.write(" ".join((command, *args)) + "\n")
    print("this is", command)
    print("it sees the GPUs", repr(os.environ.get("CUDA_VISIBLE_DEVICES")))
    if (folder / "fail").exists() and (folder / "fail").read_text() in command:
        print("no luck today")
        return 3
    {
        "nnUNetv2_plan_and_preprocess": preprocess,
        "nnUNetv2_train": train,
        "triad-classify": learn,
        "triad-register": learn,
    }[command](folder, args)
    return 0


def nnunet_folder(name: str) -> Path:
    return Path(os.environ[f"nnUNet_{name}"])


def preprocess(folder: Path, args: tuple[str, ...]) -> None:
    (raw,) = nnunet_folder("raw").glob(f"Dataset{int(args[1]):03d}_*")
    target = nnunet_folder("preprocessed") / raw.name
    (target / "gt_segmentations").mkdir(parents=True)
    (target / "nnUNetPlans.json").write_text("{}")
    content = (raw / "dataset.json").read_text()
    (target / "dataset.json").write_text(content)
    for case in range(json.loads(content)["numTraining"]):
        (target / "gt_segmentations" / f"case_{case}.nii.gz").touch()


def train(folder: Path, args: tuple[str, ...]) -> None:
    number, _, fold, _, trainer = args[:5]
    (dataset,) = nnunet_folder("preprocessed").glob(f"Dataset{int(number):03d}_*")
    model = nnunet_folder("results") / dataset.name
    output = model / f"{trainer}__nnUNetPlans__3d_fullres" / f"fold_{fold}"
    (output / "validation").mkdir(parents=True, exist_ok=True)
    (output / "checkpoint_latest.pth").touch()
    if (folder / "stop").exists():
        (folder / "stop").unlink()
        print("Stopped in epoch 3 after iteration 7")
        sys.exit(75)
    if (folder / "slow").exists():
        time.sleep(float((folder / "slow").read_text()))
    (output / "checkpoint_final.pth").touch()
    cases = [
        {
            "prediction_file": str(output / "validation" / f"{case}.nii.gz"),
            "metrics": {
                "(1, 2)": {"Dice": 0.5 + 0.1 * place},
                "2": {"Dice": float("nan") if place == 0 else 0.25},
            },
        }
        for place, case in enumerate(CASES)
    ]
    summary = {"metric_per_case": cases, "foreground_mean": {"Dice": 0.4}}
    (output / "validation" / "summary.json").write_text(json.dumps(summary))


def learn(folder: Path, args: tuple[str, ...]) -> None:
    if args[0] == "train" and "--network" in args:  # of a registration: scored later
        Path(args[2]).mkdir(parents=True)
        return
    task = "classification" if "--encoder" in args else "registration"
    output = Path(args[2]) if args[0] == "train" else Path(args[args.index("--output") + 1]).parent
    output.mkdir(parents=True, exist_ok=True)
    first = ("task", "dataset", "architecture", "initialization", "fold")
    header = (*first, "case", "label", "metric", "value")
    with (output / "results.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerow([task, "its name", "a", "b", 0, "case_1", "", "correct", 1])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
