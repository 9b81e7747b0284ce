"""What the commands do, once their options are parsed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import typer

from nnunet_triad.errors import UserError
from nnunet_triad.features.encoders import RANDOM, random_weights, read_encoder
from nnunet_triad.features.extract import Extraction, extract, rejected_path
from nnunet_triad.features.feature_sets import feature_sets
from nnunet_triad.features.journal import check_same_run
from nnunet_triad.features.page import summarize, write_page
from nnunet_triad.features.probe import run_probe
from nnunet_triad.features.samples import Sample, read_manifest, read_samples, samples_of
from nnunet_triad.features.settings import FeatureSettings, ProbeSettings
from nnunet_triad.features.table import FeatureTable, about_path, check_format, read_features
from nnunet_triad.features.targets import Targets, check_folds, read_targets
from nnunet_triad.files import check_folder, check_outputs, only_process, write_json, write_table
from nnunet_triad.images.intensity import Intensity, Scale
from nnunet_triad.texts import read_json
from nnunet_triad.training.device import check_device
from nnunet_triad.weights.file import EncoderWeights

PAGE = "probe.html"
RESULTS = ("scores.csv", "differences.csv", "predictions.csv", PAGE, "probe.json")
_NUM_SHOWN = 3  # reasons


def extract_images(inputs: Sequence[Path], output: Path, settings: FeatureSettings) -> None:
    """Write a table of features, and say what is in it.

    Raises:
        UserError: images, weights or settings are not usable, or the table is another run's.
    """
    check_device(settings.device)
    check_format(output)
    samples = read_samples(inputs, settings.mask)
    weights = read_encoder(settings)
    say_encoder(weights)
    found = extract(samples, output, weights=weights, settings=settings)
    say_extraction(found, output)


def probe_manifest(
    path: Path,
    output: Path,
    settings: ProbeSettings,
    features: FeatureSettings,
    *,
    table: Path | None,
) -> None:
    """Compute features where they are not there yet, probe them, and write tables and a page.

    Raises:
        UserError: manifest, images, weights or settings are not usable, or OUTPUT is another
            run's.
    """
    check_device(features.device)
    check_folder(output)
    check_outputs([output / name for name in RESULTS], [path, table])
    manifest = read_manifest(path)
    features = _features_of(table, features)
    samples = samples_of(path, manifest, features.mask)
    targets = read_targets(
        path,
        manifest,
        settings,
        cases=[sample.case for sample in samples],
        subjects=[sample.subject for sample in samples],
    )
    check_folds(targets, settings)
    if "subject" not in manifest:
        typer.echo(f"note: {path} has no column subject: each image counts as one", err=True)
    known = set(targets.cases)
    samples = [sample for sample in samples if sample.case in known]
    weights = read_encoder(features)
    say_encoder(weights)
    output.mkdir(parents=True, exist_ok=True)
    refusal = f"{output}: expected no other process that writes there, got one; wait for its end"
    with only_process(output / ".lock", refusal=refusal):
        _begin(output, path, settings, weights)
        if table is None:
            found = _extract(samples, output / "features.npz", weights, features)
        else:
            found = _read_table(table, weights, samples)
        floor = random_weights(weights.info, seed=features.seed + is_random(weights))
        random = _extract(samples, output / "random.npz", floor, features)
        _probe(output, targets, found, random, settings=settings, num_rows=len(manifest))


def _probe(
    output: Path,
    targets: Targets,
    encoder: FeatureTable,
    random: FeatureTable,
    *,
    settings: ProbeSettings,
    num_rows: int,
) -> None:
    is_there = np.isin(targets.cases, list(set(encoder.rows["case"]) & set(random.rows["case"])))
    left_out = {
        "no target": num_rows - len(targets),
        "no features": int((~is_there).sum()),
    }
    words = ", ".join(f"{number} with {what}" for what, number in left_out.items() if number)
    targets = targets.take(is_there)
    check_folds(targets, settings)
    sets = feature_sets(encoder, random, list(targets.cases))
    result = run_probe(sets, targets, settings)
    tables = (result.scores, result.differences, result.to_table())
    for name, table in zip(RESULTS[:3], tables, strict=True):
        write_table(output / name, table, float_format="%.6g")
    write_page(output / PAGE, result, sets, settings=settings, about=encoder.about, left_out=words)
    if words:
        typer.echo(f"left out: {words}", err=True)
    for line in summarize(result):
        typer.echo(line)
    typer.echo(f"results: {output} ({PAGE}, {', '.join(RESULTS[:3])})")


def is_random(weights: EncoderWeights) -> bool:
    """Tell whether weights are random already, so that their floor is of another seed."""
    return weights.info.source == RANDOM


def _features_of(table: Path | None, given: FeatureSettings) -> FeatureSettings:
    """Return how features are computed: as given, or as a table was."""
    is_given = given.encoder is not None
    if table is None and not is_given:
        raise UserError(
            "encoder: expected one, or --features TABLE, got neither; name an encoder",
            setting="encoder",
        )
    if table is None:
        return given
    name = "encoder" if is_given else FeatureSettings().differing_field(given)
    if name is not None:
        raise UserError(
            f"{name}: expected none beside --features, whose table says it, got "
            f"{getattr(given, name)}; leave one out",
            setting=name,
        )
    machine = {name: getattr(given, name) for name in ("device", "workers", "batch_size")}
    content = read_features(table).about["settings"]
    try:
        return replace(FeatureSettings.from_dict(content), **machine)
    except (TypeError, UserError) as error:
        raise UserError(
            f"{about_path(table)}: expected settings of this version of triad-features, got others "
            f"({error}); make the table again"
        ) from error


def _read_table(path: Path, weights: EncoderWeights, samples: Sequence[Sample]) -> FeatureTable:
    table = read_features(path)
    check_same_run(path, table.about.get("run", {}), {"weights": weights.sha256})
    if not set(table.rows["case"]) & {sample.case for sample in samples}:
        raise UserError(
            f"{path}: expected features of the images in MANIFEST, got others (first "
            f"{table.rows['case'].iloc[0]}); make them from the same manifest"
        )
    return table


def _extract(
    samples: Sequence[Sample], path: Path, weights: EncoderWeights, settings: FeatureSettings
) -> FeatureTable:
    found = extract(samples, path, weights=weights, settings=settings)
    say_extraction(found, path)
    return found.table


def _begin(output: Path, manifest: Path, settings: ProbeSettings, weights: EncoderWeights) -> None:
    """Refuse a folder of another probe, and say whose this is."""
    path = output / RESULTS[-1]
    run = {
        "weights": weights.sha256,
        "manifest": str(manifest.resolve()),
        **settings.to_dict(),
    }
    if path.exists():
        content = read_json(path)
        if not isinstance(content, dict) or content.get("program") != "triad-features probe":
            raise UserError(
                f"{path}: expected a file of triad-features probe, got another one's; "
                "choose another --output"
            )
        check_same_run(path, content.get("run", {}), run)
    write_json(path, {"program": "triad-features probe", "run": run})


def say_encoder(weights: EncoderWeights) -> None:
    """Print which encoder it is, and what is not known of it."""
    info = weights.info
    licence = f", licence {info.licence}" if info.licence else ""
    typer.echo(f"encoder: {info.spec.name} ({info.source}), sha256 {weights.sha256[:12]}{licence}")
    if Intensity.parse(info.intensity_normalization).scale is Scale.UNKNOWN:
        typer.echo(
            "note: the intensities that the weights saw are not known: z-scores are taken", err=True
        )


def say_extraction(found: Extraction, output: Path) -> None:
    """Print how much there is, what was set aside, and where it is."""
    table = found.table
    rows, cases = len(table.rows), table.rows["case"].nunique()
    what = f"{cases} images" if rows == cases else f"{rows} regions of {cases} images"
    kept = f" ({found.num_kept} of earlier runs)" if found.num_kept else ""
    levels = {name.split("_")[0] for name in table.features}
    typer.echo(f"features: {what}{kept}, {len(table.features)} of {len(levels)} levels")
    if found.rejected:
        typer.echo(f"set aside: {len(found.rejected)}, {rejected_path(output)}", err=True)
        for one in found.rejected[:_NUM_SHOWN]:
            where = "" if one.case in one.reason else f"{one.case}: "
            typer.echo(f"  {where}{one.reason}", err=True)
    if num_lost := int(table.rows[table.features[0]].isna().sum()):
        typer.echo(
            f"note: {num_lost} regions have no voxel on the encoder's grid, and empty features",
            err=True,
        )
    for caution in table.about["encoder"]["cautions"]:
        typer.echo(f"caution: {caution}", err=True)
    typer.echo(f"table: {output}, {about_path(output).name}")
