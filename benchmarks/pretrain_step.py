"""One optimiser step of the pre-training, against the same in plain MONAI and PyTorch modules.

python -m benchmarks.pretrain_step [--encoder swin_b] [--crop-size 64] [--batch-size 2] ...

The peer has the same encoder, a decoder of MONAI's blocks in the order in which Swin UNETR's
pre-training head has them (the last convolution at full resolution), and the log-ratio loss as its
formula is written, over all triplets. Both start from the same weights; their first losses must
agree, else the benchmark stops. On the CPU the clock is that of the process, on a GPU the wall's.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F  # noqa: N812
from monai.networks.blocks import Convolution, UpSample
from torch import Tensor, nn

from benchmarks.side_by_side import format_table, run_in_turn
from nnunet_triad.architectures import EncoderSpec, build_encoder
from nnunet_triad.training.distributed import ProcessGroup
from nnunet_triad.training.precision import autocast
from pretraining.objectives.paper import Paper
from pretraining.pretrain_data import PretrainData, TextTargets
from pretraining.sampling import CropDataset, CropSampler, CropSource
from pretraining.settings import PretrainSettings
from pretraining.training import Training, start_training, train_step
from pretraining.volume_table import VolumeTable, balanced_draw

OURS, PEER = "triad-pretrain's step", "the same in plain MONAI and PyTorch modules"
_NUM_VOLUMES = 8
_TEXT_DIMENSION = 768


class PlainAutoencoder(nn.Module):
    """The peer: encoder, (convolution, norm, activation, upsampling) a level, 1x1x1 convolution."""

    def __init__(self, spec: EncoderSpec) -> None:
        """Build both halves."""
        super().__init__()
        self.encoder = build_encoder(spec)
        widths = [*spec.channels[::-1], spec.channels[0]]
        self.decoder = nn.Sequential()
        for fan_in, fan_out in itertools.pairwise(widths):
            self.decoder.append(
                Convolution(
                    3,
                    fan_in,
                    fan_out,
                    adn_ordering="NA",
                    act="LEAKYRELU",
                    norm=("INSTANCE", {"affine": True}),
                    bias=False,
                )
            )
            upsample = UpSample(
                3,
                scale_factor=2,
                mode="nontrainable",
                interp_mode="trilinear",
                align_corners=False,
            )
            self.decoder.append(upsample)
        self.decoder.append(Convolution(3, widths[-1], 1, kernel_size=1, conv_only=True))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reconstruction and the pooled bottleneck."""
        bottleneck = self.encoder(image)[-1]
        return self.decoder(bottleneck), F.adaptive_avg_pool3d(bottleneck, 1).flatten(1)


def triplet_loss(visual: Tensor, text: Tensor, *, eps: float = 1e-4) -> Tensor:
    """Return the log-ratio loss with a tensor of all triplets."""
    between_images, between_texts = torch.cdist(visual, visual), torch.cdist(text, text)
    log_ratio = between_images.clamp(min=eps).log() - between_texts.clamp(min=eps).log()
    is_pair = between_texts >= eps
    is_triplet = is_pair[:, :, None] & is_pair[:, None, :]
    is_triplet &= ~torch.eye(len(visual), dtype=torch.bool, device=visual.device)
    terms = (log_ratio[:, :, None] - log_ratio[:, None, :]) ** 2
    return (terms * is_triplet).sum() / is_triplet.sum().clamp(min=1)


def main() -> None:
    """Print the table."""
    arguments = _parse_arguments()
    settings = PretrainSettings(
        encoder=arguments.encoder,
        batch_size=arguments.batch_size,
        crop_size=(arguments.crop_size,) * 3,
        precision=arguments.precision,
        device=arguments.device,
        objective_name="paper",
    )
    group = ProcessGroup(device=torch.device(arguments.device))
    training = start_training(made_up_data(settings), settings, group)
    batch = made_up_batch(settings)
    peer = _plain_step(training, batch)
    ours = _our_step(training, batch)
    first_ours, first_peer = ours(), peer()
    print(f"first losses: {first_ours:.6f} and {first_peer:.6f}")
    assert abs(first_ours - first_peer) < 1e-4 * first_peer, "the two are not the same computation"
    is_cpu = arguments.device == "cpu"
    timings = run_in_turn(
        {OURS: ours, PEER: peer},
        num_rounds=arguments.rounds,
        clock=time.process_time if is_cpu else time.perf_counter,
    )
    target = 1.0 if is_cpu else 1.5
    print(
        f"{settings.encoder}, {arguments.crop_size}^3, batch {settings.batch_size}, "
        f"{settings.precision}, {_device_name(arguments.device)}\n"
    )
    print(format_table(timings, ours=OURS, targets={PEER: target}))


def made_up_data(settings: PretrainSettings) -> PretrainData:
    """Return the data of a run whose crops are not read from a store."""
    names = tuple(map(str, range(_NUM_VOLUMES)))
    labels = pd.Categorical(np.array(names, dtype=object))
    table = VolumeTable(
        shape=(256, 256, 128),
        names=names,
        means=np.zeros(_NUM_VOLUMES),
        stds=np.ones(_NUM_VOLUMES),
        datasets=labels,
        organs=labels,
        subjects=labels,
        descriptions=labels,
    )
    nothing = np.array([], dtype=int)
    generator = torch.Generator().manual_seed(0)
    return PretrainData(
        dataset=CropDataset(
            _no_store, crop_size=settings.crop_size, seed=0, views=settings.objective.views
        ),
        sampler=CropSampler(
            table=table,
            draw=balanced_draw(table, "volume", held_out=nothing),
            crop_size=settings.crop_size,
            seed=0,
        ),
        held_out=nothing,
        texts=TextTargets(
            vectors=torch.randn(_NUM_VOLUMES, _TEXT_DIMENSION, generator=generator),
            rows=torch.arange(_NUM_VOLUMES),
        ),
        spacing_mm=(1.0, 1.0, 1.0),
    )


def made_up_batch(settings: PretrainSettings) -> dict[str, Tensor]:
    """Return a batch of noise, each crop with another text."""
    generator = torch.Generator().manual_seed(0)
    shape = (settings.batch_size, 1, *settings.crop_size)
    volumes = torch.arange(settings.batch_size) % _NUM_VOLUMES
    return {"image": torch.randn(shape, generator=generator), "volume": volumes}


def _our_step(training: Training, batch: dict[str, Tensor]) -> Callable[[], float]:
    def step() -> float:
        return _finished(train_step(training, batch)["loss"])

    return step


def _plain_step(training: Training, batch: dict[str, Tensor]) -> Callable[[], float]:
    """Return the peer's step, from a copy of the weights."""
    settings, device = training.settings, training.group.device
    model = PlainAutoencoder(training.model.spec).to(device)
    model.encoder.load_state_dict(training.model.encoder.state_dict())
    values = [
        value.detach().clone() for value in training.model.get_submodule("decoder").parameters()
    ]
    with torch.no_grad():
        for parameter, value in zip(model.decoder.parameters(), values, strict=True):
            parameter.copy_(value)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-9)
    assert training.data.texts is not None and isinstance(settings.objective, Paper)
    weight = settings.objective.log_ratio_weight
    text = training.data.texts(batch["volume"]).to(device)

    def step() -> float:
        image = batch["image"].to(device)
        with autocast(device, settings.precision):
            reconstruction, embedding = model(image)
        loss = F.l1_loss(reconstruction.float(), image)
        loss = loss + weight * triplet_loss(embedding.float(), text)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip)
        optimizer.step()
        return _finished(loss.item())

    return step


def _finished(value: float) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return value


def _device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{device}, {torch.get_num_threads()} thread(s)"


def _no_store() -> CropSource:
    raise AssertionError("the crops of a benchmark are made up")


def _parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="swin_b")
    parser.add_argument("--crop-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
