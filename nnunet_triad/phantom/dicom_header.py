"""The tags that scanners write, with a made-up person in the place of a patient."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid

if TYPE_CHECKING:
    from nnunet_triad.phantom import Acquisition

# What makes a header personal. All of it is invented.
_PERSON = {
    "PatientBirthDate": "19700228",
    "PatientSex": "O",
    "PatientAge": "054Y",
    "PatientWeight": 71.5,
    "PatientSize": 1.74,
    "PatientAddress": "1 Phantom Lane",
    "PatientTelephoneNumbers": "555-0100",
    "PatientComments": "digital phantom",
    "OtherPatientIDs": "OTHER-77",
    "EthnicGroup": "none",
    "InstitutionName": "Phantom Hospital",
    "InstitutionAddress": "2 Phantom Lane",
    "InstitutionalDepartmentName": "Simulation",
    "StationName": "PHANTOM01",
    "ReferringPhysicianName": "Referrer^Rita",
    "PerformingPhysicianName": "Performer^Paul",
    "OperatorsName": "Operator^Olga",
    "PhysiciansOfRecord": "Record^Ron",
    "AccessionNumber": "ACC0042",
    "AdmissionID": "ADM0042",
    "RequestedProcedureDescription": "simulated examination",
    "ImageComments": "simulated image",
}
_DATES = {
    "StudyDate": "20240101",
    "SeriesDate": "20240101",
    "AcquisitionDate": "20240101",
    "ContentDate": "20240101",
    "StudyTime": "080000",
    "SeriesTime": "080500",
    "AcquisitionTime": "080500",
    "ContentTime": "080500",
}
# Kind of sequence -> scanning sequence, sequence variant, and the vendors' own names for it.
_TECHNIQUES: dict[str, dict[str, Any]] = {
    "spin_echo": {
        "ScanningSequence": "SE",
        "SequenceVariant": ["SK", "SP"],
        "siemens": "*tse2d1_9",
        "ge": "FSE-XL",
        "philips": "TSE",
    },
    "inversion_recovery": {
        "ScanningSequence": ["SE", "IR"],
        "SequenceVariant": ["SK", "MP"],
        "siemens": "*tir2d1_16",
        "ge": "FSE-IR",
        "philips": "TIR",
    },
    "spoiled_gradient_echo": {
        "ScanningSequence": "GR",
        "SequenceVariant": ["SP", "OSP"],
        "siemens": "*fl3d1",
        "ge": "SPGR",
        "philips": "T1FFE",
    },
}


def make_header(
    volume: "Acquisition",
    *,
    series_number: int,
    image_type: tuple[str, ...],
    modality: str = "MR",
    extra: Mapping[str, Any] | None = None,
) -> Dataset:
    """Return the part of a header that all instances of a series share.

    Args:
        volume: what was acquired, with its sequence, scanner and subject.
        series_number: tells series of one study apart.
        image_type: as in the tag.
        modality: as in the tag.
        extra: keyword -> value, set last.
    """
    header = Dataset()
    header.update(_dataset({**_PERSON, **_DATES}))
    header.update(_dataset(_identity(volume, series_number)))
    header.update(_dataset(_acquisition(volume)))
    header.ImageType = list(image_type)
    header.Modality = modality
    _add_vendor_tags(header, volume)
    for keyword, value in (extra or {}).items():
        setattr(header, keyword, value)
    return header


def uid_of(*parts: object) -> UID:
    """Return the UID that these parts always give."""
    return generate_uid(entropy_srcs=["triad phantom", *map(str, parts)])


def file_meta(sop_class: UID, sop_instance: UID) -> FileMetaDataset:
    """Return the group 2 header of a file."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = sop_instance
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = uid_of("implementation")
    return meta


def _identity(volume: "Acquisition", series_number: int) -> dict[str, Any]:
    study = uid_of(volume.anatomy, volume.subject_name, volume.scanner.serial_number, "study")
    return {
        "SOPClassUID": MRImageStorage,
        "PatientName": f"Phantom^{volume.subject_name}",
        "PatientID": f"PID-{volume.subject_name}",
        "StudyID": "1",
        "StudyDescription": f"{volume.anatomy} study",
        "StudyInstanceUID": study,
        "SeriesInstanceUID": uid_of(study, "series", series_number),
        "FrameOfReferenceUID": uid_of(study, "frame"),
        "SeriesNumber": series_number,
        "AcquisitionNumber": 1,
        "SeriesDescription": volume.sequence.name,
        "ProtocolName": f"{volume.anatomy} {volume.sequence.name}",
        "BodyPartExamined": volume.anatomy.upper(),
        "PatientPosition": "HFS",
        "PositionReferenceIndicator": "",
    }


def _acquisition(volume: "Acquisition") -> dict[str, Any]:
    sequence, scanner = volume.sequence, volume.scanner
    technique = _TECHNIQUES[sequence.kind]
    tags: dict[str, Any] = {
        "Manufacturer": scanner.manufacturer,
        "ManufacturerModelName": scanner.model,
        "DeviceSerialNumber": scanner.serial_number,
        "SoftwareVersions": scanner.software_version,
        "MagneticFieldStrength": scanner.field_strength_t,
        "ScanningSequence": technique["ScanningSequence"],
        "SequenceVariant": technique["SequenceVariant"],
        "ScanOptions": "",
        "MRAcquisitionType": "3D" if sequence.is_3d else "2D",
        "RepetitionTime": sequence.repetition_time_ms,
        "EchoTime": sequence.echo_time_ms,
        "FlipAngle": sequence.flip_angle_deg,
        "EchoTrainLength": 1,
        "NumberOfAverages": 1,
        "ImagingFrequency": round(42.577478 * scanner.field_strength_t, 3),
        "ImagedNucleus": "1H",
        "EchoNumbers": 1,
        "PercentSampling": 100,
        "PercentPhaseFieldOfView": 100,
        "PixelBandwidth": 220,
        "SAR": 0.1,
    }
    if sequence.inversion_time_ms is not None:
        tags["InversionTime"] = sequence.inversion_time_ms
    if sequence.is_contrast_enhanced:
        tags["ContrastBolusAgent"] = "Phantovist 12 ml"
        tags["ContrastBolusIngredient"] = "GADOLINIUM"
    return tags


def _add_vendor_tags(header: Dataset, volume: "Acquisition") -> None:
    maker = volume.scanner.manufacturer.lower()
    technique = _TECHNIQUES[volume.sequence.kind]
    if "siemens" in maker:
        header.SequenceName = technique["siemens"]
    elif "ge" in maker.split():
        header.private_block(0x0019, "GEMS_ACQU_01", create=True).add_new(
            0x9C, "LO", technique["ge"]
        )
    elif "philips" in maker:
        header.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(
            0x20, "LO", technique["philips"]
        )


def _dataset(tags: Mapping[str, Any]) -> Dataset:
    dataset = Dataset()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return dataset
