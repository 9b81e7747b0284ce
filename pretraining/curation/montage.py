"""A picture of a dataset in a store: the middle axial slices of some of its series.

Drawn by hand with Pillow, since a figure of matplotlib took longer than six volumes do, while
every other process had nothing left to do.
"""

import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nnunet_triad.files import write_atomically
from pretraining.store import VolumeStore

MONTAGE_FOLDER = "montages"
TILE = 240  # pixels of the longer side of a slice
_GAP = 10
_TITLE_HEIGHT = 34  # of two lines
_FONT_SIZE = 13
_NUM_COLUMNS = 6
_MAX_SERIES = 24


def save_montage(store: VolumeStore, dataset: str) -> Path:
    """Draw up to 24 series, evenly spread over the dataset; the patient's right is on the right.

    Returns:
        The picture's path, STORE/montages/DATASET.png.
    """
    rows = np.flatnonzero(store.records["dataset"].to_numpy() == dataset)
    spread = np.linspace(0, len(rows) - 1, min(len(rows), _MAX_SERIES)).astype(int)
    chosen = rows[np.unique(spread)]
    tiles = [_tile(_middle_slice(store, int(index))) for index in chosen]
    titles = [_title(store, int(index)) for index in chosen]
    path = store.path / MONTAGE_FOLDER / f"{dataset}.png"
    with write_atomically(path) as temporary:
        _arrange(tiles, titles).save(temporary, compress_level=3)
    return path


def _arrange(tiles: list[Image.Image], titles: list[str]) -> Image.Image:
    """Put tiles of equal size into rows, each below its title, which may be wider than it."""
    width, height = TILE + _GAP, tiles[0].height + _TITLE_HEIGHT + _GAP
    num_columns = min(_NUM_COLUMNS, len(tiles))
    num_rows = -(-len(tiles) // num_columns)
    picture = Image.new("L", (num_columns * width + _GAP, num_rows * height + _GAP), color=255)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(_FONT_SIZE)
    for number, (tile, title) in enumerate(zip(tiles, titles, strict=True)):
        row, column = divmod(number, num_columns)
        left, top = _GAP + column * width, _GAP + row * height
        middle = (left + TILE // 2, top + _TITLE_HEIGHT - 4)
        pen.multiline_text(middle, title, fill=0, font=font, anchor="md", align="center", spacing=2)
        picture.paste(tile, (left + (TILE - tile.width) // 2, top + _TITLE_HEIGHT))
    return picture


def _tile(image: np.ndarray) -> Image.Image:
    """Return a slice (x, y) as a picture of 8 bits, anterior at the top."""
    low, high = np.percentile(image[::2, ::2], (1, 99.5))  # a quarter tells enough
    scaled = (image - low) * (255 / max(high - low, 1e-6))
    picture = Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8).T[::-1])
    factor = TILE / max(picture.size)
    width, height = (max(round(length * factor), 1) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.BILINEAR)


def _title(store: VolumeStore, index: int) -> str:
    """Return the sequence, by its short name where it has one, and the end of the series' name."""
    sequence = store.records["description"].iloc[index].split(".")[0].removeprefix("MRI, ")
    short = re.search(r"\((\w+)\)", sequence)
    name = short[1] if short else sequence
    return f"{name[:30]}\n{store.records['series'].iloc[index][-26:]}"


def _middle_slice(store: VolumeStore, index: int) -> np.ndarray:
    x, y, z = store.shape(index)
    return store.read_crop(index, (0, 0, z // 2), (x, y, 1))[:, :, 0]
