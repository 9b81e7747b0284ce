"""Text embeddings of the imaging descriptions, made once by a frozen sentence model.

    STORE/embeddings.safetensors   vectors (n, d), with model, revision and descriptions as metadata
    STORE/embeddings.json          the same without the vectors, for people

The first file is whole in itself; nothing reads the second.
"""

import hashlib
import importlib
import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from nnunet_triad.errors import UserError
from nnunet_triad.files import sha256, write_atomically, write_json
from nnunet_triad.texts import parse_json

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_METADATA_KEY = "triad"
FORMAT_VERSION = "1"
VECTORS_FILE = "embeddings.safetensors"
SUMMARY_FILE = "embeddings.json"
DEFAULT_MODEL = "sentence-transformers/gtr-t5-large"
_OTHER_FRAMEWORKS = ["*.onnx", "*.h5", "*.msgpack", "*.ot", "onnx/*", "openvino/*"]


@dataclass(frozen=True, kw_only=True)
class EmbeddingTable:
    """The vector of each distinct description of a store.

    Attributes:
        model_name: hub name of the sentence model, or the last two parts of its folder.
        revision: commit of the hub, or `sha256:` and a digest of the folder's files.
        descriptions: the texts, in the order of `vectors`.
        vectors: (n, d) float32.
    """

    model_name: str
    revision: str
    descriptions: tuple[str, ...]
    vectors: np.ndarray

    def __post_init__(self) -> None:
        rows = {text: row for row, text in enumerate(self.descriptions)}
        if self.vectors.ndim != 2 or len(rows) != len(self.vectors):
            raise ValueError(f"{len(rows)} descriptions for vectors {self.vectors.shape}")
        object.__setattr__(self, "_rows", rows)

    @classmethod
    def open(cls, store_path: Path) -> "EmbeddingTable":
        """Read the table of a store.

        Raises:
            UserError: there is none, or its file is damaged.
        """
        file = Path(store_path) / VECTORS_FILE
        if not file.is_file():
            raise UserError(
                f"{store_path}: expected {VECTORS_FILE}, got none; run triad-embed {store_path}"
            )
        try:
            with safe_open(file, framework="numpy") as tensors:
                metadata = tensors.metadata()
                vectors = tensors.get_tensor("vectors")
            if _METADATA_KEY in metadata:
                summary = parse_json(metadata[_METADATA_KEY], _METADATA_KEY)
            else:  # as the first files have it: a key a field, in any order
                summary = {
                    **metadata,
                    "descriptions": parse_json(metadata["descriptions"], "descriptions"),
                }
            if summary["format_version"] != FORMAT_VERSION:
                raise KeyError("format_version")
            return cls(
                model_name=summary["model_name"],
                revision=summary["revision"],
                descriptions=tuple(summary["descriptions"]),
                vectors=vectors,
            )
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{file}: expected text embeddings of format version {FORMAT_VERSION}, got a file "
                f"that cannot be read ({error}); delete it and run triad-embed {store_path}"
            ) from None

    @property
    def dimension(self) -> int:
        """Length d of each vector."""
        return self.vectors.shape[1]

    def __len__(self) -> int:
        return len(self.descriptions)

    def __contains__(self, description: str) -> bool:
        return description in self._rows  # type: ignore[attr-defined]

    def vector(self, description: str) -> np.ndarray:
        """Return the vector of a description, (d,) float32.

        Raises:
            UserError: the description was never embedded.
        """
        if description not in self:
            raise UserError(
                f"description: expected one that was embedded with {self.model_name}, "
                f"got {description!r}; run triad-embed on the store"
            )
        return self.vectors[self._rows[description]]  # type: ignore[attr-defined]

    def save(self, store_path: Path) -> None:
        """Write both files, each atomically."""
        summary = {
            "format_version": FORMAT_VERSION,
            "model_name": self.model_name,
            "revision": self.revision,
            "dimension": self.dimension,
            "descriptions": list(self.descriptions),
        }
        metadata = {_METADATA_KEY: json.dumps(summary)}  # one key: the bytes stay the same
        with write_atomically(Path(store_path) / VECTORS_FILE) as temporary:
            vectors = np.ascontiguousarray(self.vectors, dtype=np.float32)
            temporary.write_bytes(save({"vectors": vectors}, metadata=metadata))
        write_json(Path(store_path) / SUMMARY_FILE, summary)


@dataclass(frozen=True, kw_only=True)
class SentenceModel:
    """A sentence model on this machine: what it is called, exactly which one, and where."""

    name: str
    revision: str
    folder: Path

    def load(self, device: str = "cpu") -> "SentenceTransformer":
        """Load the frozen model; sentence-transformers assembles its modules.

        Raises:
            UserError: the folder holds no sentence-transformers model.
        """
        library = _import_sentence_transformers()
        try:
            return library.SentenceTransformer(str(self.folder), device=device).eval()
        except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
            raise UserError(
                f"--model {self.folder}: expected a sentence-transformers model that loads on "
                f"{device}, got an error ({_first_line(error)}); check the folder and --device"
            ) from error


def find_model(name_or_folder: str, *, revision: str | None = None) -> SentenceModel:
    """Return the model of a local folder, or of the hub through its cache.

    Raises:
        UserError: neither a folder nor a model that the hub or its cache gives.
    """
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise UserError(
                f"--revision: expected none with a folder, got {revision}; "
                "the folder's content is its revision"
            )
        return _local_model(folder)
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    try:
        snapshot = huggingface_hub.snapshot_download(
            name_or_folder, revision=revision, ignore_patterns=_OTHER_FRAMEWORKS
        )
    except HFValidationError:
        raise UserError(
            f"--model: expected a folder or a hub name such as {DEFAULT_MODEL}, "
            f"got {name_or_folder}; no such folder"
        ) from None
    except Exception as error:  # whatever the network or the hub's client comes up with
        raise UserError(
            f"--model: expected a folder, or a name that the hub or its cache can give, got "
            f"{name_or_folder} ({type(error).__name__}); without a connection pass the folder "
            "of a copy"
        ) from error
    return SentenceModel(name=name_or_folder, revision=Path(snapshot).name, folder=Path(snapshot))


def embed_texts(
    model: SentenceModel, texts: Sequence[str], *, device: str = "cpu", show_progress: bool = False
) -> np.ndarray:
    """Embed texts with a frozen sentence model.

    Source: Triad, section 4.1 (GTR-T5-Large); how the modules are put together is the model's own.

    Returns:
        (n, d) float32, in the order of `texts`.

    Raises:
        UserError: the model does not load, or gives values that are not finite.
    """
    network = model.load(device)
    vectors = network.encode(list(texts), show_progress_bar=show_progress, convert_to_numpy=True)
    if not np.isfinite(vectors).all():
        raise UserError(f"--model {model.name}: expected finite vectors, got NaN or infinite ones")
    return vectors.astype(np.float32)


def update_embeddings(
    store_path: Path,
    descriptions: Iterable[str],
    model: SentenceModel,
    *,
    device: str = "cpu",
    overwrite: bool = False,
    show_progress: bool = False,
) -> tuple[int, EmbeddingTable]:
    """Embed the descriptions that the store's table lacks, and write the table.

    Args:
        store_path: the store's folder.
        descriptions: of its series; each distinct one is embedded once.
        model: the same as the table's, unless `overwrite`.
        overwrite: make the table anew when it is another model's.

    Returns:
        How many texts were embedded, and the table.

    Raises:
        UserError: the table is another model's, and `overwrite` is not set.
    """
    before = _existing_table(store_path, model, overwrite=overwrite)
    wanted = sorted(set(descriptions))
    new = [text for text in wanted if before is None or text not in before]
    if before is not None and not new:
        return 0, before
    vectors = embed_texts(model, new, device=device, show_progress=show_progress)
    if before is not None:
        new_table = (*before.descriptions, *new)
        vectors = np.concatenate([before.vectors, vectors])
    else:
        new_table = tuple(new)
    table = EmbeddingTable(
        model_name=model.name, revision=model.revision, descriptions=new_table, vectors=vectors
    )
    table.save(store_path)
    return len(new), table


def _existing_table(
    store_path: Path, model: SentenceModel, *, overwrite: bool
) -> EmbeddingTable | None:
    if overwrite and not _is_of_model(store_path, model):
        return None
    if not (Path(store_path) / VECTORS_FILE).is_file():
        return None
    table = EmbeddingTable.open(store_path)
    if table.revision != model.revision:
        raise UserError(
            f"{store_path}: expected embeddings of {model.name} ({model.revision}), got those of "
            f"{table.model_name} ({table.revision}); pass --overwrite to replace them"
        )
    return table


def _is_of_model(store_path: Path, model: SentenceModel) -> bool:
    try:
        return EmbeddingTable.open(store_path).revision == model.revision
    except UserError:
        return False


def _local_model(folder: Path) -> SentenceModel:
    if not (folder / "modules.json").is_file():
        raise UserError(
            f"--model {folder}: expected a sentence-transformers folder, got one without "
            "modules.json; pass the folder that holds it"
        )
    name = "/".join(folder.resolve().parts[-2:])
    return SentenceModel(name=name, revision=f"sha256:{_fingerprint(folder)}", folder=folder)


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_file() and not re.search(r"(^|/)\.|\.md$", relative):
            digest.update(f"{relative}\0{sha256(path)}\n".encode())
    return digest.hexdigest()[:16]


def _import_sentence_transformers() -> ModuleType:
    """Import the library, hiding a torchvision of another build than torch, which would break it.

    transformers imports torchvision when it is installed; text models have no use for it.
    """
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError):
        sys.modules["torchvision"] = None  # type: ignore[assignment]
    return importlib.import_module("sentence_transformers")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
