"""Simulated results tables: no run made them; they have the shape of real ones."""

import numpy as np

from nnunet_triad.benchmark.paper import members
from nnunet_triad.evaluation import Result

LABELS = {
    "BraTS21": ("Whole Tumor", "Tumor Core", "Enhancing Tumor"),
    "MSD-BrainTumour": ("edema", "non-enhancing tumor", "enhancing tumour"),
    "BreastDM": ("tumour",),
    "Prostate158": ("central gland", "peripheral zone", "tumour"),
    "MSD-Prostate": ("peripheral", "transition"),
}
STRUCTURES = ("Thalamus", "White matter", "Caudate", "Putamen", "Hippocampus", "Choroid plexus")
CLASSES = {"ADNI": ("CN", "MCI", "AD"), "BreastDM": ("Benign", "Malignant")}
GAINS = {"scratch": 0.0, "voco": 0.01, "triad": 0.02}


def segmentation(*, seed=0, num_cases=20, initializations=tuple(GAINS)):
    generator = np.random.default_rng(seed)
    for dataset in members("segmentation", "within-domain"):
        difficulty = generator.normal(0.78, 0.06, size=(num_cases, len(LABELS[dataset])))
        for architecture in ("unet", "swin_b"):
            for initialization in initializations:
                noise = generator.normal(GAINS[initialization], 0.03, size=difficulty.shape)
                yield from _rows(
                    "segmentation", dataset, architecture, initialization, LABELS[dataset],
                    np.clip(difficulty + noise, 0, 1),
                )  # fmt: skip


def registration(*, seed=1, num_cases=12):
    generator = np.random.default_rng(seed)
    for dataset in ("IXI", "OASIS"):
        difficulty = generator.normal(0.76, 0.05, size=(num_cases, len(STRUCTURES)))
        for initialization, gain in GAINS.items():
            noise = generator.normal(gain, 0.02, size=difficulty.shape)
            yield from _rows(
                "registration", dataset, "swinunetr_b", initialization, STRUCTURES,
                np.clip(difficulty + noise, 0, 1),
            )  # fmt: skip


def classification(*, seed=2, num_cases=60):
    generator = np.random.default_rng(seed)
    for dataset, classes in CLASSES.items():
        truths = generator.integers(len(classes), size=num_cases)
        for initialization, gain in GAINS.items():
            logits = generator.normal(size=(num_cases, len(classes)))
            logits[np.arange(num_cases), truths] += 1.2 + 20 * gain
            chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            for case, (truth, row) in enumerate(zip(truths, chances, strict=True)):
                shared = {
                    "task": "classification",
                    "dataset": dataset,
                    "architecture": "swin_b",
                    "initialization": initialization,
                    "fold": 0,
                    "case": f"scan-{case:03d}",
                    "subject": f"subject-{case // 2:03d}",  # two scans each
                }
                is_right = float(row.argmax() == truth)
                yield Result(**shared, label=classes[truth], metric="correct", value=is_right)
                for label, value in zip(classes, row, strict=True):
                    yield Result(**shared, label=label, metric="probability", value=float(value))


def _rows(task, dataset, architecture, initialization, labels, values):
    for case, row in enumerate(values):
        for label, value in zip(labels, row, strict=True):
            yield Result(
                task=task,
                dataset=dataset,
                architecture=architecture,
                initialization=initialization,
                fold=0,
                case=f"case-{case:03d}",
                label=label,
                metric="dice",
                value=float(value),
            )
