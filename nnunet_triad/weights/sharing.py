"""Weights on the Hugging Face hub: a repository with the file and a model card."""

import tempfile
from dataclasses import replace
from pathlib import Path

from nnunet_triad.architectures.families import networks_on
from nnunet_triad.errors import UserError
from nnunet_triad.files import check_not_another, copy_atomically, sha256
from nnunet_triad.weights.export import convert
from nnunet_triad.weights.file import EncoderWeights
from nnunet_triad.weights.fingerprint import compute_fingerprint
from nnunet_triad.weights.hub import HubName, download, first_sentence
from nnunet_triad.weights.origins import UNSTATED, file_names, find_origin, trainer_word

_UNKNOWN = ("", UNSTATED)  # what a file says that does not know
# The hub's identifiers of licences; others become "other" with their name.
_HUB_LICENCES = {"Apache-2.0": "apache-2.0", "CC BY-NC-ND 4.0": "cc-by-nc-nd-4.0"}
_CARD = """# {name}

Encoder weights for 3D medical images: {architecture} ({parameters:,} parameters, {channels} input
channel(s)), pre-trained by {source}.

| | |
|---|---|
| file | `{file}` |
| sha256 | `{sha256}` |
| architecture | {architecture} ({family}) |
| intensity normalisation | {normalization} |
| axes of its arrays | {axes} |
| patch merging, as MONAI 1.5.0 counts | {merging} |
| crop of the pre-training, voxels | {patch_size} |
| spacing, mm | {spacing_mm} |
| steps | {steps:,} |
| objective | {objective} |
| data | {data} |
| licence | {licence} |

Fine-tune inside nnU-Net, with the package Triad for nnU-Net:

```bash
export TRIAD_WEIGHTS=hf://{repository}/{file}
nnUNetv2_train DATASET 3d_fullres 0 -tr {trainer}
```

What the encoder gives for a built-in image, to be compared with yours by
`triad-weights verify hf://{repository}/{file} --against hf://{repository}/README.md`:

```
{fingerprint}
```

Cite: {citation}
"""


def push(
    weights: EncoderWeights,
    repository: str,
    *,
    licence: str | None = None,
    is_private: bool = False,
    revision: str | None = None,
) -> str:
    """Upload weights as safetensors, with a model card, and return their `hf://` name.

    Args:
        weights: from `load_weights`, of any source.
        repository: ORG/NAME; made when missing.
        licence: replaces the file's; needed where the file does not say.
        is_private: of a repository that is made.
        revision: a branch; without: main.

    Raises:
        UserError: the licence is not known, or the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    name = HubName.parse(f"hf://{repository}")
    info = replace(weights.info, licence=licence or weights.info.licence)
    if info.licence in _UNKNOWN:
        raise UserError(
            f"{weights.path}: expected weights whose licence is known, got {info.source}'s, whose "
            "file does not say; look it up, or choose it for your own, and name it with --licence"
        )
    weights = replace(weights, info=info)
    api = HfApi()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / file_names(_initialization(info.source), info.spec.name)[0]
        convert(weights, file)
        card = model_card(weights, name.repository, file)
        (Path(folder) / "README.md").write_text(card, encoding="utf-8")
        try:
            api.create_repo(name.repository, private=is_private, exist_ok=True)
            api.upload_folder(
                repo_id=name.repository,
                folder_path=folder,
                revision=revision,
                commit_message=f"Add {file.name}",
            )
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            raise UserError(
                f"{name}: expected the hub to take the upload, got: {first_sentence(error)}; "
                "log in with `hf auth login`, and check the name"
            ) from error
        return str(replace(name, file=file.name, revision=revision))


def pull(name: str, output: Path) -> Path:
    """Copy a file on the hub to OUTPUT, a file or an existing folder, and return its path.

    Raises:
        UserError: there is no such file, or it would replace another one.
    """
    source = download(name)
    target = output / source.name if output.is_dir() else output
    check_not_another(target, source)
    copy_atomically(source, target)
    return target


def model_card(weights: EncoderWeights, repository: str, file: Path) -> str:
    """Return the README of a repository: the hub's metadata, then what the weights are."""
    from huggingface_hub import ModelCardData

    info = weights.info
    known = _HUB_LICENCES.get(info.licence)
    data = ModelCardData(
        license=known or "other",
        license_name=None if known else info.licence,
        library_name="triad-nnunet",
        pipeline_tag="image-segmentation",
        tags=["medical", "mri", "3d", "nnunet", info.spec.family],
    )
    body = _CARD.format(
        name=repository.split("/")[1],
        architecture=info.spec.name,
        family=info.spec.family,
        parameters=weights.num_parameters,
        channels=info.input_channels,
        source=info.source,
        file=file.name,
        sha256=sha256(file),
        normalization=info.intensity_normalization,
        axes=info.axes or "not known",
        merging=getattr(info.spec, "merging", "none") or "not known",
        patch_size=_times(info.patch_size),
        spacing_mm=_times(info.spacing_mm),
        steps=info.pretraining_steps,
        objective=info.objective.get("name") or "not stated",
        data=info.data_summary or "not stated",
        licence=info.licence,
        repository=repository,
        trainer=_trainer(weights),
        fingerprint="\n".join(compute_fingerprint(weights).lines()),
        citation=info.citation,
    )
    return f"---\n{data.to_yaml()}\n---\n\n{body}"


def _initialization(source: str) -> str:
    """What users write for a source, so that `--init` finds the file in a folder."""
    origin = find_origin(source)
    return origin.initialization if origin else source


def _trainer(weights: EncoderWeights) -> str:
    network = (networks_on(weights.info.spec.name) or ("NETWORK",))[-1]
    return f"nnUNetTrainer{trainer_word(weights.info.source)}{network}"


def _times(sizes: tuple[float, ...] | None) -> str:
    return " x ".join(f"{size:g}" for size in sizes) if sizes else "not stated"
