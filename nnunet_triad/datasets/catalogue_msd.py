"""The ten tasks of the Medical Segmentation Decathlon that the paper uses.

Source: medicaldecathlon.com and the tasks' own `dataset.json`; Antonelli et al., Nature
Communications 2022 (arXiv:2106.05735).
"""

from nnunet_triad.datasets.layouts import MsdLayout
from nnunet_triad.datasets.spec import DatasetSpec

_REFERENCE = "Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 2022"


def _task(
    id: int,
    name: str,
    task: str,
    *,
    anatomy: str,
    modality: str,
    channels: tuple[str, ...],
    labels: tuple[str, ...],
    num_cases: int,
    is_within_domain: bool = False,
    notes: tuple[str, ...] = (),
) -> DatasetSpec:
    """Return a task whose labels are 0 to n in this order."""
    values = dict(enumerate(("background", *labels)))
    return DatasetSpec(
        id=id,
        name=f"MSD-{name}",
        anatomy=anatomy,
        modality=modality,
        is_within_domain=is_within_domain,
        channels=channels,
        labels={label: value for value, label in values.items()},
        source_values={value: value for value in values},
        num_cases=num_cases,
        layout=MsdLayout(task=task, num_channels=len(channels), label_values=tuple(values)),
        licence="CC BY-SA 4.0",
        url="http://medicaldecathlon.com",
        access=f"free download of {task}.tar",
        reference=_REFERENCE,
        notes=notes,
    )


MSD_DATASETS = (
    _task(
        *(502, "BrainTumour", "Task01_BrainTumour"),
        anatomy="parts of brain tumours",
        modality="MRI",
        channels=("FLAIR", "T1w", "t1gd", "T2w"),
        labels=("edema", "non-enhancing tumor", "enhancing tumour"),
        num_cases=484,
        is_within_domain=True,
        notes=(
            "The cases come from BraTS 2016 and 2017, in which some patients were scanned more "
            "than once; which cases belong together is not published with the task. Who knows it "
            "passes --patients to triad-dataset split.",
        ),
    ),
    _task(
        *(505, "Prostate", "Task05_Prostate"),
        anatomy="zones of the prostate",
        modality="MRI",
        channels=("T2", "ADC"),
        labels=("PZ", "TZ"),
        num_cases=32,
        is_within_domain=True,
        notes=(
            "The paper speaks of T2, ADC and DFI, and of the central gland; the task has T2 and "
            "ADC, and calls the second zone TZ.",
        ),
    ),
    _task(
        *(510, "Pancreas", "Task07_Pancreas"),
        anatomy="pancreas and its tumours",
        modality="CT",
        channels=("CT",),
        labels=("pancreas", "cancer"),
        num_cases=281,
    ),
    _task(
        *(511, "Liver", "Task03_Liver"),
        anatomy="liver and its tumours",
        modality="CT",
        channels=("CT",),
        labels=("liver", "cancer"),
        num_cases=131,
        notes=(
            "Section 2.1.3 of the paper calls it MRI; the images are CT.",
            "The images are those of LiTS.",
        ),
    ),
    _task(
        *(512, "Heart", "Task02_Heart"),
        anatomy="left atrium",
        modality="MRI",
        channels=("MRI",),
        labels=("left atrium",),
        num_cases=20,
    ),
    _task(
        *(513, "Hippocampus", "Task04_Hippocampus"),
        anatomy="head and body of the hippocampus",
        modality="MRI",
        channels=("MRI",),
        labels=("Anterior", "Posterior"),
        num_cases=260,
        notes=(
            "Section 2.1.3 of the paper calls it CT and out of domain; the images are brain MRI.",
            "The 394 volumes of training and test part come from 195 subjects, left and right; "
            "which belong together is not published with the task. Who knows it passes --patients "
            "to triad-dataset split.",
        ),
    ),
    _task(
        *(514, "Lung", "Task06_Lung"),
        anatomy="lung tumours",
        modality="CT",
        channels=("CT",),
        labels=("cancer",),
        num_cases=63,
    ),
    _task(
        *(515, "HepaticVessel", "Task08_HepaticVessel"),
        anatomy="vessels and tumours of the liver",
        modality="CT",
        channels=("CT",),
        labels=("Vessel", "Tumour"),
        num_cases=303,
    ),
    _task(
        *(516, "Spleen", "Task09_Spleen"),
        anatomy="spleen",
        modality="CT",
        channels=("CT",),
        labels=("spleen",),
        num_cases=41,
    ),
    _task(
        *(517, "Colon", "Task10_Colon"),
        anatomy="colon tumours",
        modality="CT",
        channels=("CT",),
        labels=("colon cancer primaries",),
        num_cases=126,
    ),
)
