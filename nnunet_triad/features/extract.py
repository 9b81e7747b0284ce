"""A run: from images to a table of pooled features, which goes on where it was stopped."""

import itertools
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from nnunet_triad import __version__
from nnunet_triad.errors import UserError
from nnunet_triad.features.extractor import Extractor, Rejected
from nnunet_triad.features.first_order import first_order_names
from nnunet_triad.features.journal import Journal, Rows, check_same_run
from nnunet_triad.features.samples import Sample
from nnunet_triad.features.settings import FeatureSettings
from nnunet_triad.features.table import (
    FeatureTable,
    about_path,
    check_format,
    check_unclaimed,
    read_features,
    write_features,
)
from nnunet_triad.features.windows import SIGMA
from nnunet_triad.files import (
    check_outputs,
    only_process,
    remove_leftovers,
    write_table,
)
from nnunet_triad.training.memory import explain_out_of_memory
from nnunet_triad.weights.file import EncoderWeights

MEMORY_ADVICE = "try a smaller --window or --batch-size"
_POOLING = (
    "mean of each channel of a level over a region; at its border a feature counts with the share "
    "of its voxels inside. Labels are taken onto the encoder's grid by their nearest voxel. Where "
    f"windows overlap: Gaussian weights of standard deviation {SIGMA:g} windows, as nnU-Net's"
)


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """What a run ended with."""

    table: FeatureTable
    rejected: tuple[Rejected, ...]
    num_kept: int  # images of earlier runs


@explain_out_of_memory(MEMORY_ADVICE)
def extract(
    samples: Sequence[Sample],
    output: Path,
    *,
    weights: EncoderWeights,
    settings: FeatureSettings,
    is_quiet: bool = False,
) -> Extraction:
    """Write a table of features, and go on where a run on it was stopped.

    Rows that are there already, of the same weights, settings and files, are kept. Images of which
    nothing can be computed go to NAME_rejected.csv with their reasons; a later run tries again.

    Args:
        samples: at least one, of distinct cases.
        output: NAME.parquet, .csv or .npz; its JSON is written beside it.
        weights: of the encoder.
        settings: of the run.
        is_quiet: show no progress bar.

    Raises:
        UserError: the table is another run's, or there is no image that can be used.
    """
    check_format(output)
    check_unclaimed(output)
    files = [path for sample in samples for path in sample.files]
    check_outputs([output, about_path(output), rejected_path(output)], files)
    extractor = Extractor(weights, settings, num_channels=len(samples[0].images))
    about = describe(extractor, weights, num_channels=len(samples[0].images))
    output.parent.mkdir(parents=True, exist_ok=True)
    refusal = f"{output}: expected no other process that writes it, got one; wait for its end"
    with only_process(output.with_name(f".{output.name}.lock"), refusal=refusal):
        remove_leftovers(output.parent, of=output.name)
        journal = Journal(output.with_name(f".{output.name}.rows"), about["run"])
        kept = {**_read_kept(output, samples, about), **journal.kept}
        rejected: list[Rejected] = []
        num_kept = 0
        bar = tqdm(total=len(samples), unit="image", desc=output.stem, disable=is_quiet)
        with bar, _no_warnings():
            for found in extractor.run(samples, lambda s, content: _is_same(kept, s, content)):
                if isinstance(found, Rows):
                    journal.add(found)
                    kept[found.case] = found
                elif found is None:
                    num_kept += 1
                else:
                    rejected.append(found)
                bar.update()
        without = {one.case for one in rejected}
        rows = [(s, kept[s.case]) for s in samples if s.case not in without]
        table = FeatureTable(rows=_assemble(rows, about["columns"]), about=about)
        _write_rejected(output, rejected)
        if not len(table.rows):
            raise UserError(
                f"{samples[0].case}: expected images that can be used, got none; first: "
                f"{rejected[0].reason}"
            )
        write_features(output, table)
        journal.remove()
    return Extraction(table=table, rejected=tuple(rejected), num_kept=num_kept)


def rejected_path(output: Path) -> Path:
    """Return where images that were set aside are told."""
    return output.with_name(f"{output.stem}_rejected.csv")


def describe(extractor: Extractor, weights: EncoderWeights, *, num_channels: int) -> dict[str, Any]:
    """Return the JSON that is written beside a table."""
    info, report = weights.info, extractor.encoder.report
    settings = extractor.settings.to_dict()
    spacing = extractor.encoder.spacing_mm
    run = {
        "weights": weights.sha256,
        "channels": num_channels,
        "levels": list(extractor.levels),
        "origin": info.source,
        "axes": info.axes,
        "intensity": info.intensity_normalization,
        **{name: settings[name] for name in ("mask", "window", "overlap", "merging", "key")},
    }
    return {
        "program": "triad-features",
        "package_version": __version__,
        "encoder": {
            "file": str(weights.path),
            "sha256": weights.sha256,
            "name": info.spec.name,
            "origin": info.source,
            "licence": info.licence,
            "citation": info.citation,
            "axes": report.axes or "right, anterior, superior, as the weights saw",
            "merging": report.merging,
            "intensity": info.intensity_normalization,
            "spacing_mm": list(spacing) if spacing else "each image's own",
            "cautions": list(report.cautions),
        },
        "pooling": _POOLING,
        "settings": settings,
        "run": run,
        "columns": [*first_order_names(num_channels), *extractor.names],
    }


def _read_kept(output: Path, samples: Sequence[Sample], about: dict[str, Any]) -> dict[str, Rows]:
    """Return the rows of a table that is there, by case."""
    if not output.exists():
        return {}
    table = read_features(output)
    check_same_run(output, table.about.get("run", {}), about["run"])
    numbers, features = table.first_order, table.features
    groups = {str(case): rows for case, rows in table.rows.groupby("case", sort=False)}
    foreign = set(groups) - {sample.case for sample in samples}
    if foreign:
        raise UserError(
            f"{output}: expected a table of the same images, got one that has {min(foreign)} as "
            "well; choose another -o"
        )
    return {
        case: Rows(
            case=case,
            content=str(rows["content"].iloc[0]),
            regions=tuple(map(str, rows["region"])),
            first_order=rows[numbers].to_numpy(np.float64),
            features=rows[features].to_numpy(np.float32),
        )
        for case, rows in groups.items()
    }


def _is_same(kept: dict[str, Rows], sample: Sample, content: str) -> bool:
    return sample.case in kept and kept[sample.case].content == content


def _assemble(found: Sequence[tuple[Sample, Rows]], columns: Sequence[str]) -> pd.DataFrame:
    texts = [
        (sample.case, sample.subject, region, rows.content)
        for sample, rows in found
        for region in rows.regions
    ]
    table = pd.DataFrame(texts, columns=["case", "subject", "region", "content"], dtype=object)
    if not found:
        return table
    parts = [np.concatenate([getattr(rows, n) for _, rows in found]) for n in _NUMBERS]
    names = iter(columns)
    numbers = [pd.DataFrame(p, columns=list(itertools.islice(names, p.shape[1]))) for p in parts]
    return pd.concat([table, *numbers], axis=1)


_NUMBERS = ("first_order", "features")


def _write_rejected(output: Path, rejected: Sequence[Rejected]) -> None:
    path = rejected_path(output)
    if rejected:
        write_table(path, pd.DataFrame([vars(one) for one in rejected]))
    else:
        path.unlink(missing_ok=True)  # an earlier run's


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Say nothing at each image; the scale that is not known is told once, by the command."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the intensity scale that the weights saw")
        yield
