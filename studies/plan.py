"""Which trials there are, the most important first."""

from collections.abc import Iterator
from itertools import product

from studies.design import (
    DATA,
    EXCHANGED,
    FINETUNE,
    INSIDE,
    PLAIN,
    PRETRAININGS,
    PROBE,
    REAL,
    REAL_EXCHANGED,
    REAL_LAYERWISE,
    REAL_LONG,
    REAL_LOW,
    REAL_TUNING,
    REFERENCES,
    REMEDIES,
    REPEATS,
    SCRATCH,
    SLOW_ENCODER,
    TRAININGS,
    Scale,
    Trial,
)

ABLATION_ENCODER, ABLATION_LABELLED = "unet_t", 2
AXES_LABELLED = 4
NEW_SEEDS = 10  # the first seed on the new subjects
# Data, encoder: fine-tuned with more seeds, and from a longer pre-training, too.
CLOSER_LOOK = ("sequence", "unet_4")
REGISTRATION_NETWORKS = ("transmorph_t", "swinunetr_t")
OTHER_TASKS = (
    ("sequences", "swin_t", PROBE),
    ("sequences", "swin_t", FINETUNE),
    ("sequences", "swin_t", SLOW_ENCODER),
    *(("aligned-brains", network, FINETUNE) for network in REGISTRATION_NETWORKS),
)


def trials(scale: Scale) -> Iterator[Trial]:
    """Yield each trial once."""
    plans = (
        *(_segmentation(scale), _other_tasks(scale), _classification(scale), _registration()),
        _axes(scale),
        _real(),
    )
    yield from dict.fromkeys(trial for plan in plans for trial in plan)


def _segmentation(scale: Scale) -> Iterator[Trial]:
    """From how many labelled subjects, on which subjects, from what, and by which schedule."""
    for labelled in (1, 2, 4, 8, 16):
        yield from _seeds(scale, "unet_t", (SCRATCH, "masked"), labelled)
    for labelled in (1, 4):
        yield from _seeds(scale, "unet_t", ("paper",), labelled)
    for labelled in (1, 2, 4):
        yield from _seeds(scale, "unet_t", ("long",), labelled)
    for order, names in enumerate(
        ((SCRATCH, "long", "paper-long"), *((SCRATCH, name) for name in REPEATS))
    ):
        for labelled in (4, 2, 1):
            yield from _seeds(scale, "unet_t", names, labelled, first=NEW_SEEDS, order=order)
    for labelled in (4, 8, 16):
        yield from _seeds(scale, "unet_t", ("paper-long", "long")[labelled > 4 :], labelled)
    yield from _seeds(scale, "swin_t", (SCRATCH, "masked"), 1)
    for name in (n for n, made in PRETRAININGS.items() if made.images.spacing_mm == 3):
        if name not in REPEATS:
            yield from _seeds(scale, ABLATION_ENCODER, (name,), ABLATION_LABELLED)
    for training, names in (("adamw-frozen", ("masked",)), ("sgd", (SCRATCH, "masked"))):
        yield from _seeds(scale, ABLATION_ENCODER, names, ABLATION_LABELLED, training=training)
    for labelled in (2, 4, 8, 16):
        yield from _seeds(scale, "swin_t", (SCRATCH, "masked"), labelled)
    for labelled in (8, 16):
        yield from _seeds(scale, "unet_t", ("paper",), labelled)
    for labelled in (1, 2, 4):
        yield from _seeds(scale, "swin_t", ("low-rate", "long"), labelled)
    for training in ("adamw-flat", "adamw-sawtooth", "adamw-llrd", "adamw-fine", "adamw-coarse"):
        names = ("long",) if TRAININGS[training].scratch else (SCRATCH, "long")
        yield from _seeds(scale, ABLATION_ENCODER, names, ABLATION_LABELLED, training=training)


def _seeds(
    scale: Scale,
    network: str,
    initializations: tuple[str, ...],
    labelled: int,
    *,
    training: str = PLAIN,
    first: int = 0,
    order: int = 0,  # the how-manieth set of seeds: each has others
) -> Iterator[Trial]:
    data = "new-brains" if first == NEW_SEEDS else "brains"
    start = first + order * scale.num_seeds
    for seed, name in product(range(start, start + scale.num_seeds), initializations):
        yield Trial(
            data=data,
            network=network,
            initialization=name,
            labelled=min(labelled, DATA[data].at(scale).subjects),
            training=training,
            seed=seed,
        )


def _other_tasks(scale: Scale) -> Iterator[Trial]:
    """From the encoders that segmentation starts from: one pre-training, all three tasks."""
    for names in ((SCRATCH, "long"), ("low-rate",)):
        for (data, network, training), name in product(OTHER_TASKS, names):
            for seed in range(scale.num_seeds):
                yield Trial(
                    data=data, network=network, initialization=name, training=training, seed=seed
                )


def _classification(scale: Scale) -> Iterator[Trial]:
    """From encoders that were pre-trained at the images' own resolution; and rare classes."""
    pairs = list(product(("sequence", "lesion", "ventricles"), ("swin_t", "unet_4")))
    few = range(min(3, scale.num_seeds))
    for (data, network), training in product(pairs, (PROBE, FINETUNE)):
        names = [SCRATCH, f"small-paper-{network}"]
        if training == PROBE or data == "sequence":
            names.append(f"small-masked-{network}")
        is_closer = (data, network) == CLOSER_LOOK
        if is_closer:
            names.append(f"small-long-{network}")
        seeds = range(scale.num_seeds) if is_closer and training == FINETUNE else few
        for seed, name in product(seeds, names):
            yield Trial(
                data=data, network=network, initialization=name, training=training, seed=seed
            )
    for training, seed in product((FINETUNE, *REMEDIES), few):
        yield Trial(data="rare", network="unet_4", training=training, seed=seed)


def _registration() -> Iterator[Trial]:
    """Beside what needs no training, and from an encoder of the images' own resolution."""
    yield Trial(data="atlas", network="transmorph_t", training=REFERENCES, seed=0)
    for seed, network in product(range(3), REGISTRATION_NETWORKS):
        for name in (SCRATCH, "small-brains"):
            yield Trial(
                data="atlas", network=network, initialization=name, training=FINETUNE, seed=seed
            )


def _axes(scale: Scale) -> Iterator[Trial]:
    """Inside nnU-Net, whose arrays have other axes than those of the pre-training."""
    arms = ((SCRATCH, INSIDE), ("stretched", INSIDE), ("stretched", EXCHANGED))
    seeds = range(scale.num_seeds)
    for seed, network, (name, training) in product(seeds, ("swin_t", "unet_t"), arms):
        yield Trial(
            data="thick-slices",
            network=network,
            initialization=name,
            labelled=min(AXES_LABELLED, DATA["thick-slices"].at(scale).subjects),
            training=training,
            seed=seed,
        )


def _real() -> Iterator[Trial]:
    """On real volumes: what to pre-train by is chosen on one half and confirmed on the other."""
    first, second = f"{REAL}-first", f"{REAL}-second"
    objectives = {
        "unet_4": ("real-spark", "random-spark", "real-masked"),
        "swin_t": (
            *("real-spark-swin_t", "real-simmim-swin_t"),
            *("real-simmim-long-swin_t", "real-mae-swin_t"),
        ),
    }
    for seed, (network, names) in product(range(3), objectives.items()):
        for name in (SCRATCH, *names):
            yield _inside(first, network, name, 2, seed)
    for seed, name in product(range(3), (SCRATCH, "real-simmim-swin_t")):
        yield _inside(first, "swin_t", name, 2, seed, training=REAL_LAYERWISE)
    longer = {
        "swin_t": ("real-spark-swin_t", "real-mae-swin_t", "real-spark-long-swin_t"),
        "swin_t_gn": ("real-spark-swin_t_gn",),
    }
    for seed, (network, names) in product(range(3), longer.items()):
        for name in (SCRATCH, *names):
            yield _inside(first, network, name, 2, seed, training=REAL_LONG)
    for name in (SCRATCH, *longer["swin_t"][:2]):
        yield _inside(first, "swin_t", name, 2, 2, training=REAL_LOW)
    start = NEW_SEEDS
    for repeat, num in (("real-spark", 6), ("real-spark-seed1", 3), ("real-spark-seed2", 3)):
        seeds = range(start, start + num)
        start += num
        for labelled, seed, name in product((2, 1, 4), seeds, (SCRATCH, repeat)):
            yield _inside(second, "unet_4", name, labelled, seed)
        for labelled, few in ((104, 3), (8, 1), (16, 1)):
            for seed, name in product(seeds[:few], (SCRATCH, repeat)):
                yield _inside(second, "unet_4", name, labelled, seed)
        for name in (SCRATCH, repeat):
            yield _inside(f"{REAL}-all", "unet_4", name, 208, seeds[0])
            yield _inside(second, "unet_4", name, 2, seeds[0], training=REAL_LONG)
    for seed in range(NEW_SEEDS, NEW_SEEDS + 6):
        yield _inside(second, "unet_4", "real-spark", 2, seed, training=REAL_EXCHANGED)
    yield from _real_tasks()


def _real_tasks() -> Iterator[Trial]:
    """Classification and registration of the hippocampi, from the encoders of segmentation."""
    encoders = {"unet_4": "real-spark", "swin_t": "real-spark-swin_t"}
    networks = {"transmorph_unet_4": "real-spark", "swinunetr_t": "real-spark-swin_t"}
    settings = [
        *(
            (f"{REAL}-size", *pair, training)
            for pair in encoders.items()
            for training in (PROBE, FINETUNE)
        ),
        *((f"{REAL}-pairs", *pair, FINETUNE) for pair in networks.items()),
    ]
    for seed, (data, network, pretrained, training) in product(range(3), settings):
        for name in (SCRATCH, pretrained):
            yield Trial(
                data=data, network=network, initialization=name, training=training, seed=seed
            )


def _inside(
    data: str, network: str, name: str, labelled: int, seed: int, *, training: str = REAL_TUNING
) -> Trial:
    return Trial(
        data=data,
        network=network,
        initialization=name,
        labelled=labelled,
        training=training,
        seed=seed,
    )
