"""What `triad-register evaluate` and `prepare` do with files."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from nnunet_triad.errors import UserError
from nnunet_triad.evaluation import append_results
from nnunet_triad.files import check_outputs
from nnunet_triad.training.device import check_device
from nnunet_triad.training.memory import PREDICTION_ADVICE, explain_out_of_memory
from registration.datasets.acdc import prepare_acdc
from registration.datasets.ixi import prepare_ixi
from registration.datasets.oasis import prepare_oasis
from registration.evaluate import Scored, draw_results, picture_paths, score_pairs, summarize
from registration.figures import check_picture
from registration.label_sets import load_label_set
from registration.manifest import SPLITS, Pair, read_manifest, write_manifest
from registration.references import model_method, reference_method
from registration.settings import EvaluateSettings

_READERS: dict[str, Callable[[Path, Path, Callable[[str], None]], list[Pair]]] = {
    "ixi": prepare_ixi,
    "oasis": prepare_oasis,
    "acdc": prepare_acdc,
}


@explain_out_of_memory(PREDICTION_ADVICE)
def evaluate_manifest(manifest: Path, settings: EvaluateSettings) -> str:
    """Score models and references on the pairs of a split, append the rows, and draw.

    Returns:
        Lines of text: mean and spread over the pairs a model and metric, and the files written.

    Raises:
        UserError: there is nothing to evaluate, a file is wrong, or would be replaced though it is
            no result.
    """
    output, align = settings.output, settings.align
    check_device(align.device)
    check_outputs([output], [manifest])
    for path in picture_paths(output):
        check_picture(path)
    structures = None if settings.labels is None else load_label_set(settings.labels)
    methods = [reference_method(name, alignment=align.affine) for name in settings.reference]
    methods += [
        model_method(
            path, alignment=align.affine, num_refinements=align.refine, device=align.device
        )
        for path in settings.model
    ]
    if not methods:
        raise UserError("model: expected --model or --reference, got neither")
    split, dataset = settings.split, settings.dataset or manifest.stem
    pairs = [p for p in read_manifest(manifest) if p.split == split and p.fixed is not None]
    if not pairs:
        raise UserError(f"{manifest}: expected pairs with the split {split}, got none")
    scored: list[Scored] = []
    shown: list[Scored] = []
    with tqdm(total=len(pairs) * len(methods), unit="pair") as bar:
        for item in score_pairs(
            pairs, methods, dataset=dataset, label_set=structures, progress=bar.update
        ):
            append_results(output, item.results)
            if len(shown) < len(methods):
                shown.append(item)
            scored.append(item)
    table = pd.DataFrame([asdict(result) for item in scored for result in item.results])
    pictures = draw_results(table, shown, output)
    written = ", ".join(map(str, [output, *pictures]))
    return f"{_as_text(summarize(table))}\nwritten: {written}"


def _as_text(summary: pd.DataFrame) -> str:
    return "\n".join(
        f"{row['architecture']} {row['initialization']}: {row['metric']} {row['mean']:.4f} "
        f"± {row['std']:.4f} ({row['count']} pairs)"
        for _, row in summary.iterrows()
    )


def prepare_dataset(name: str, output: Path, source: Path) -> str:
    """Write OUTPUT/manifest.csv of a dataset.

    Raises:
        UserError: the dataset is unknown, its layout is another, or a file is refused.
    """
    if name not in _READERS:
        raise UserError(f"dataset: expected one of {', '.join(_READERS)}, got {name}")
    if not source.is_dir():
        raise UserError(f"{source}: expected the dataset's folder, got none")
    with tqdm(unit="file") as bar:

        def advance(_: str) -> None:
            bar.update()

        pairs = _READERS[name](source, output, advance)
    if not pairs:
        raise UserError(f"{source}: expected images of {name} as published, got none")
    manifest = output / "manifest.csv"
    write_manifest(manifest, pairs)
    counts = {split: sum(pair.split == split for pair in pairs) for split in SPLITS}
    return f"{manifest}: " + ", ".join(f"{number} {split}" for split, number in counts.items())
