"""What the pictures show."""

import matplotlib.image
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from nnunet_triad.architectures import encoder_spec
from pretraining import pictures
from pretraining.network import PretrainNetwork
from pretraining.objectives.paper import Paper
from pretraining.objectives.parts.masking import draw_mask, mask_blocks
from pretraining.pictures import draw_crops, draw_progress, pictured_volumes
from pretraining.sampling import read_crop, sample_generator


@pytest.fixture
def figures(monkeypatch) -> list[Figure]:
    """The figures that are drawn, kept for a look at what is in them."""
    kept: list[Figure] = []
    save = pictures.save_figure

    def keep(figure, path):
        kept.append(figure)
        return save(figure, path)

    monkeypatch.setattr(pictures, "save_figure", keep)
    return kept


def test_reconstructions_show_image_input_reconstruction_and_their_difference(
    tmp_path, make_data, make_settings, figures
):
    data = make_data(make_settings(mask_ratio=0.5, held_out=0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = PretrainNetwork(Paper(mask_ratio=0.5), encoder_spec("swin_t"))

    path = draw_crops(tmp_path, network=network, data=data, device=torch.device("cpu"), step=7)

    assert path == tmp_path / "reconstructions.png"
    assert matplotlib.image.imread(path).shape[2] == 4
    rows = [axis.get_images()[0].get_array() for axis in figures[0].axes]
    assert len(rows) == 4 * 4
    plan = data.sampler.plan_centre(pictured_volumes(data)[1])
    crop = torch.from_numpy(read_crop(data.dataset.source, plan, size=(64, 32, 32)))
    random = sample_generator(0, 0, plan.volume, stream=1)
    mask = draw_mask(random, size=(64, 32, 32), block=8, ratio=0.5)
    masked = mask_blocks(crop[None, None], mask[None])
    with torch.no_grad():
        reconstruction = network.decoder(network.encoder(masked))
    whole = crop[None, None]
    for found, expected in zip(
        rows[4:8], (whole, masked, reconstruction, (reconstruction - crop).abs()), strict=True
    ):
        torch.testing.assert_close(
            torch.from_numpy(found.data.copy()), expected[0, 0, :, :, 16].T.contiguous()
        )
    assert "after 7 steps" in figures[0].get_suptitle()


def test_reconstructions_without_masking_show_the_image_once(
    tmp_path, make_data, make_settings, figures
):
    data = make_data(make_settings(held_out=0))
    network = PretrainNetwork(Paper(), encoder_spec("swin_t"))
    draw_crops(tmp_path, network=network, data=data, device=torch.device("cpu"), step=0)
    titles = [axis.get_title() for axis in figures[0].axes]
    assert titles == ["input", "reconstruction", "difference"] * 4


def test_pictured_volumes_are_held_out_ones_where_there_are_enough(make_data, make_settings):
    data = make_data(make_settings(held_out=4))

    assert pictured_volumes(data) == data.held_out.tolist()
    assert pictured_volumes(make_data(make_settings(held_out=3))) == [0, 1, 2, 4]


def test_progress_draws_each_number_of_the_log(tmp_path, figures):
    table = pd.DataFrame(
        {
            "step": range(1, 101),
            "loss": [1 / step for step in range(1, 101)],
            "l1": 0.5,
            "log_ratio": float("nan"),  # the term was off
            "alignment": [0.1 if step % 25 == 0 else float("nan") for step in range(1, 101)],
            "rank": [3.0 if step % 50 == 0 else float("nan") for step in range(1, 101)],
            "learning_rate": 1e-3,
            "gradient_norm": 1.0,
            "seconds": 0.1,
            "wait_seconds": 0.0,
        }
    )
    table.to_csv(tmp_path / "log.csv", index=False)

    draw_progress(tmp_path, Paper())

    drawn = {axis.get_title(): axis.get_lines() for axis in figures[0].axes if axis.lines}
    assert len(drawn) == 6
    assert sum(axis.axison for axis in figures[0].axes) == 6
    assert not any("log-ratio" in title for title in drawn)
    alignment = drawn["alignment (Spearman, held-out volumes)"][0]
    assert alignment.get_xdata().tolist() == [25, 50, 75, 100]
    rank = drawn["effective rank (held-out volumes)"][0]
    assert rank.get_xdata().tolist() == [50, 100]
    assert drawn["loss (weighted sum)"][0].get_ydata().tolist() == table["loss"].tolist()
