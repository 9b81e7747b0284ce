"""The ten tasks of the Medical Segmentation Decathlon, through nnU-Net's own converter."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nnunet_triad.datasets.case import Case
from nnunet_triad.datasets.layouts.checks import (
    all_files,
    join_some,
    refuse_missing,
    refuse_partial_downloads,
)
from nnunet_triad.datasets.published import place, read_nifti
from nnunet_triad.datasets.spec import DatasetSpec, Layout
from nnunet_triad.errors import UserError
from nnunet_triad.images import Volume
from nnunet_triad.texts import read_json

_ENDING = ".nii.gz"


@dataclass(frozen=True, kw_only=True)
class MsdLayout(Layout):
    """A folder `TaskNN_NAME` with `dataset.json`, `imagesTr`, `labelsTr` and `imagesTs`.

    Source: `dataset.json` of the decathlon lists every case and names channels and labels; images
    of several channels are 4D files. Files are split by nnU-Net's `split_4d_nifti`, the function
    that `nnUNetv2_convert_MSD_dataset` calls for each of them.
    Differs: one case after the other, each whole or not there, and with links where nothing is
    split; the listed files are converted, not whatever lies in the folders.

    Attributes:
        task: the folder's name, such as "Task01_BrainTumour".
    """

    task: str

    @property
    def description(self) -> str:
        """Folders and file names."""
        return f"{self.task}/{{dataset.json, imagesTr, labelsTr, imagesTs}}"

    def find_cases(self, source: Path, spec: DatasetSpec) -> list[Case]:
        """Return the cases that the task's `dataset.json` lists, training cases first.

        Raises:
            UserError: it is another task, or files that it lists are missing.
        """
        files = list(all_files(source))
        refuse_partial_downloads(files)
        path = self._find_description(source, files)
        content = _read_description(path)
        self._check(content, path, spec)
        training = [self._case(path, entry) for entry in content["training"]]
        tests = [self._case(path, {"image": entry}) for entry in content.get("test", [])]
        refuse_missing([file for case in training + tests for file in case.files], path)
        if len(training) != content.get("numTraining", len(training)):
            raise UserError(
                f"{path}: expected {content['numTraining']} training cases as it says itself, got "
                f"{len(training)}; unpack the archive again"
            )
        return training + tests

    def load_images(self, case: Case) -> list[Volume]:
        """Read the image and return its channels."""
        volume = read_nifti(case.images[0])
        if volume.voxels.ndim != 4:
            return [volume]
        return [
            replace(volume, name=f"{volume.name}, channel {i}", voxels=volume.voxels[..., i])
            for i in range(volume.voxels.shape[3])
        ]

    def write_images(self, case: Case, paths: list[Path], *, is_copied: bool) -> None:
        """Split a 4D image into its channels; link or copy a 3D one."""
        from nnunetv2.dataset_conversion.convert_MSD_dataset import split_4d_nifti

        if len(paths) == 1 and not is_copied:
            place(case.images[0], paths[0], is_copied=False)
        else:
            split_4d_nifti(str(case.images[0]), str(paths[0].parent))

    def _find_description(self, source: Path, files: list[Path]) -> Path:
        found = [path for path in files if path.name == "dataset.json"]
        named = [path for path in found if path.parent.name == self.task]
        direct = source / "dataset.json"
        if direct in found and not source.resolve().name.startswith("Task"):
            named.append(direct)  # a task's folder under another name; its content is checked
        if not named:
            got = join_some(path.parent.name for path in found) or "no dataset.json"
            raise UserError(
                f"{source}: expected {self.description}, got {got}; name the unpacked folder "
                f"{self.task} or the one that holds it"
            )
        if len(named) > 1:
            raise UserError(
                f"{source}: expected one folder {self.task}, got {named[0].parent} and "
                f"{named[1].parent}; name one of them"
            )
        return named[0]

    def _check(self, content: dict[str, Any], path: Path, spec: DatasetSpec) -> None:
        expected = tuple(sorted(spec.source_values))
        found = tuple(sorted(int(value) for value in content["labels"]))
        if found != expected:
            raise UserError(
                f"{path}: expected labels {expected} of {self.task}, got {found}; "
                "name another folder or id"
            )
        if len(content["modality"]) != len(spec.channels):
            raise UserError(
                f"{path}: expected {len(spec.channels)} channels of {self.task}, got "
                f"{len(content['modality'])}; name another folder or id"
            )

    def _case(self, path: Path, entry: dict[str, str]) -> Case:
        image = path.parent / entry["image"]
        name = image.name.removesuffix(_ENDING)
        labels = (path.parent / entry["label"],) if "label" in entry else ()
        return Case(
            name=name,
            images=(image,),
            labels=labels,
            patient=name,
            split="train" if labels else "test",
        )


def _read_description(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
        content["labels"], content["modality"], content["training"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: expected the decathlon's description with labels, modality and training, "
            f"got one that cannot be used ({error!r}); unpack the archive again"
        ) from error
    return dict(content)
