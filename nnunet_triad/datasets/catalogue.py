"""The paper's 17 segmentation datasets, in its order.

Source: sections 2.1.2, 2.1.3 and 4.2.1 of the paper for the division and the numbers of cases; the
datasets' own pages, publications and tools for everything else.
"""

from nnunet_triad.datasets.catalogue_msd import MSD_DATASETS
from nnunet_triad.datasets.layouts import BreastDmLayout, PatternLayout, Prostate158Layout
from nnunet_triad.datasets.spec import DatasetSpec
from nnunet_triad.errors import UserError

_BRATS21 = DatasetSpec(
    id=501,
    name="BraTS21",
    anatomy="parts of gliomas",
    modality="MRI",
    is_within_domain=True,
    channels=("T1", "T1ce", "T2", "Flair"),
    # nnU-Net's Dataset137: oedema 1, necrosis 2, enhancing tumour 3, from 2, 1 and 4
    labels={
        "background": 0,
        "whole tumor": (1, 2, 3),
        "tumor core": (2, 3),
        "enhancing tumor": (3,),
    },
    regions_class_order=(1, 2, 3),
    source_values={0: 0, 1: 2, 2: 1, 4: 3},
    num_cases=1251,
    layout=PatternLayout(
        case=r"BraTS2021_\d{5}",
        images=("{}/{}_t1", "{}/{}_t1ce", "{}/{}_t2", "{}/{}_flair"),
        label="{}/{}_seg",
        description="BraTS2021_NNNNN/BraTS2021_NNNNN_{t1, t1ce, t2, flair, seg}.nii.gz",
    ),
    licence="the challenge's terms of use",
    url="https://www.synapse.org/#!Synapse:syn25829067",
    access="register with Synapse and accept the terms of RSNA-ASNR-MICCAI BraTS 2021",
    reference="Baid et al., The RSNA-ASNR-MICCAI BraTS 2021 Benchmark, arXiv:2107.02314",
    notes=(
        "Labels and regions are those of nnU-Net's own conversion Dataset137.",
        "Validation and test parts have no labels and are not converted.",
    ),
)

_BREASTDM = DatasetSpec(
    id=503,
    name="BreastDM",
    anatomy="breast tumours",
    modality="MRI",
    is_within_domain=True,
    channels=("DCE pre-contrast", "DCE post-contrast", "DCE subtraction"),
    labels={"background": 0, "tumor": 1},
    source_values={0: 0, 255: 1},
    num_cases=232,
    layout=BreastDmLayout(),
    licence="not stated; for research, from the authors",
    url="https://github.com/smallboy-code/Breast-cancer-dataset",
    access="write to the address in the README of the authors' repository",
    reference="Zhao et al., BreastDM, Computers in Biology and Medicine 164 (2023) 107255",
    notes=(
        "The volumes are stacks of a few slices around the lesion, padded with empty ones, and "
        "carry no spacing: 1 mm is written for all axes.",
        "All of train, val and test are converted: the paper counts all 232 patients. "
        "cases.csv keeps the published division.",
        "Masks of patients without images in the same part (18 in the release) are left out.",
        "The three sequences have masks of their own; the one after contrast is used.",
        "Not verified: that these masks agree, and that they hold nothing but 0 and 255; "
        "values between are cut at the middle.",
        "Not verified: which sequences the paper used as channels.",
    ),
)

_PROSTATE158 = DatasetSpec(
    id=504,
    name="Prostate158",
    anatomy="zones and tumours of the prostate",
    modality="MRI",
    is_within_domain=True,
    channels=("T2", "ADC", "DWI"),
    labels={"background": 0, "transition zone": 1, "peripheral zone": 2, "tumor": 3},
    source_values={0: 0, 1: 1, 2: 2, 3: 3},
    num_cases=158,
    layout=Prostate158Layout(),
    licence="CC BY-NC-SA 4.0 (Not verified)",
    url="https://doi.org/10.5281/zenodo.6481141",
    access="free download; the 19 test studies are at https://doi.org/10.5281/zenodo.6592345",
    reference="Adams et al., Prostate158, Computers in Biology and Medicine 148 (2022) 105817",
    notes=(
        "Tumours (first reader, on the ADC map) are painted over the zones (first reader, on T2).",
        "158 is training (119), validation (20) and test part (19); all are converted, and "
        "cases.csv keeps the published division. Without the test archive there are 139.",
        "Not verified: which of zones and tumours the paper trained on, and the licence.",
    ),
)

_MM_WHS = DatasetSpec(
    id=506,
    name="MM-WHS-MRI",
    anatomy="parts of the heart and great vessels",
    modality="MRI",
    is_within_domain=False,
    channels=("MRI",),
    labels={
        "background": 0,
        "left ventricle": 1,
        "right ventricle": 2,
        "left atrium": 3,
        "right atrium": 4,
        "myocardium of the left ventricle": 5,
        "ascending aorta": 6,
        "pulmonary artery": 7,
    },
    source_values={0: 0, 500: 1, 600: 2, 420: 3, 421: 3, 550: 4, 205: 5, 820: 6, 850: 7},
    num_cases=20,
    layout=PatternLayout(
        case=r"mr_train_\d{4}",
        images=("{}_image",),
        label="{}_label",
        test_images=("{}_image",),
        test_case=r"mr_test_\d{4}",
        description="mr_train/mr_train_NNNN_{image, label}.nii.gz",
    ),
    licence="for research, by the challenge's agreement",
    url="https://zmiclab.github.io/zxh/0/mmwhs/",
    access="register on the challenge's page",
    reference="Zhuang et al., Evaluation of algorithms for Multi-Modality Whole Heart "
    "Segmentation, Medical Image Analysis 58 (2019) 101537",
    notes=("421 is taken as 420. Not verified: that it occurs in the release.",),
)

_ATLAS = DatasetSpec(
    id=507,
    name="ATLAS-MRI",
    anatomy="liver and its tumours",
    modality="MRI",
    is_within_domain=False,
    channels=("T1w",),
    labels={"background": 0, "liver": 1, "tumour": 2},
    source_values={0: 0, 1: 1, 2: 2},
    num_cases=60,
    layout=PatternLayout(
        case=r"\d+",
        case_name="ATLAS_{:0>3}",
        images=("imagesTr/im{}",),
        label="labelsTr/lb{}",
        test_images=("imagesTs/im{}",),
        description="imagesTr/imN.nii.gz and labelsTr/lbN.nii.gz",
    ),
    licence="CC BY-NC-SA 4.0",
    url="https://atlas-challenge.u-bourgogne.fr",
    access="register on the challenge's page",
    reference="Quinton et al., A Tumour and Liver Automatic Segmentation (ATLAS) Dataset on "
    "Contrast-Enhanced MRI for Hepatocellular Carcinoma, Data 8 (2023) 79",
    notes=("The 30 cases of the challenge's test set are not published.",),
)

_ABDOMEN_1K = DatasetSpec(
    id=508,
    name="Abdomen-1K",
    anatomy="abdominal organs",
    modality="CT",
    is_within_domain=False,
    channels=("CT",),
    labels={"background": 0, "liver": 1, "kidney": 2, "spleen": 3, "pancreas": 4},
    source_values={0: 0, 1: 1, 2: 2, 3: 3, 4: 4},
    num_cases=361,
    layout=PatternLayout(
        case=r"train_\d{4}",
        images=("TrainImage/{}_0000",),
        label="TrainMask/{}",
        description="Subtask1/{TrainImage/train_NNNN_0000, TrainMask/train_NNNN}.nii.gz",
    ),
    licence="of AbdomenCT-1K's sources (Not verified)",
    url="https://zenodo.org/records/5903037",
    access="free download of Subtask1.zip, the fully supervised benchmark of AbdomenCT-1K",
    reference="Ma et al., AbdomenCT-1K: Is Abdominal Organ Segmentation A Solved Problem?, "
    "IEEE TPAMI 44 (2022) 6695",
    notes=(
        "281 of the images are those of MSD-Pancreas, 80 those of NIH Pancreas.",
        "VoCo's list for this dataset has no validation part.",
        "Not verified: the licence.",
    ),
)

_KIPA22 = DatasetSpec(
    id=509,
    name="KiPA22",
    anatomy="kidney, its tumours and vessels",
    modality="CT",
    is_within_domain=False,
    channels=("CT",),
    labels={"background": 0, "renal vein": 1, "kidney": 2, "renal artery": 3, "tumor": 4},
    source_values={0: 0, 1: 1, 2: 2, 3: 3, 4: 4},
    num_cases=70,
    layout=PatternLayout(
        case=r"\d+",
        case_name="KiPA22_{:0>3}",
        images=("train/image/{}",),
        label="train/label/{}",
        test_images=("test/image/{}",),
        description="train/{image, label}/N.nii.gz",
    ),
    licence="CC BY-NC 4.0 (Not verified)",
    url="https://kipa22.grand-challenge.org",
    access="register on the challenge's page",
    reference="He et al., Meta grayscale adaptive network for 3D integrated renal structures "
    "segmentation, Medical Image Analysis 71 (2021) 102055",
    notes=(
        "Intensities are stored as unsigned numbers, probably Hounsfield units + 1024; nnU-Net's "
        "normalisation for CT does not depend on an offset.",
        "Not verified: the offset and the licence.",
    ),
)

DATASETS: dict[int, DatasetSpec] = {
    spec.id: spec
    for spec in sorted(
        (_BRATS21, _BREASTDM, _PROSTATE158, _MM_WHS, _ATLAS, _ABDOMEN_1K, _KIPA22, *MSD_DATASETS),
        key=lambda spec: spec.id,
    )
}


def find_dataset(id_or_name: str) -> DatasetSpec:
    """Return a dataset by its id, its name or nnU-Net's name of its folder.

    Raises:
        UserError: there is none; the message lists the ids.
    """
    wanted = id_or_name.lower().replace("_", "-")
    for spec in DATASETS.values():
        names = (str(spec.id), spec.name, spec.folder_name)
        if wanted in (name.lower().replace("_", "-") for name in names):
            return spec
    known = ", ".join(f"{spec.id} {spec.name}" for spec in DATASETS.values())
    raise UserError(f"dataset: expected one of {known}, got {id_or_name}; see triad-dataset list")
