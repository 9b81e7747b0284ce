"""Draw docs/images/architecture.svg: what goes where. Run: python docs/draw_architecture.py."""

from html import escape
from pathlib import Path

TARGET = Path(__file__).parent / "images" / "architecture.svg"
WIDTH, HEIGHT, BOX_HEIGHT = 980, 500, 66
# x, y, width, kind, title, line below
BOXES = (
    (20, 20, 180, "data", "triad-phantom", "simulated MRI, truth known"),
    (20, 130, 180, "data", "your MRI", "DICOM, BIDS or NIfTI"),
    (20, 240, 180, "data", "others' weights", "VoCo, SuPreM, nnssl, …"),
    (20, 372, 180, "data", "labelled data", "nnU-Net raw, or a CSV"),
    (250, 130, 180, "step", "triad-curate", "series, screening, 1 mm"),
    (510, 130, 180, "file", "volume store", "blosc2 + JSON sidecars"),
    (510, 20, 180, "step", "triad-embed", "descriptions to vectors"),
    (780, 130, 180, "step", "triad-pretrain", "reconstruct + log-ratio loss"),
    (250, 240, 180, "step", "triad-weights", "read, check, convert, push"),
    (
        510,
        240,
        450,
        "file",
        "weights file",
        "safetensors: the encoder, and all that is known of it",
    ),
    (250, 372, 180, "step", "nnUNetv2_train", "trainers, by the plugin"),
    (450, 372, 150, "step", "triad-classify", "classification"),
    (620, 372, 150, "step", "triad-register", "registration"),
    (810, 372, 150, "step", "triad-benchmark", "one table, one page"),
)
ARROWS = (
    "M200 53 H225 V150 H250",
    "M200 166 H250",
    "M430 163 H510",
    "M570 130 V86",
    "M630 86 V130",
    "M690 163 H780",
    "M870 196 V240",
    "M200 273 H250",
    "M430 273 H510",
    "M560 306 V340 H340 V372",
    "M580 306 V350 H525 V372",
    "M695 306 V372",
    "M200 405 H250",
    "M110 438 V474 H535 V438",
    "M535 474 H680 V438",
)
# To the report, in another colour: they cross the lines of the labelled data.
RESULTS = ("M360 438 V456 H885 V438",)
JOINED = ("M510 438 V456", "M710 438 V456")
LABELS = (
    (470, 155, "middle", "volumes"),
    (562, 112, "end", "text"),
    (638, 112, "start", "vectors"),
    (735, 155, "middle", "crops"),
    (345, 333, "start", "transfer, every tensor reported"),
    (800, 472, "middle", "results"),
    (320, 490, "middle", "images and labels, or pairs"),
)
STYLE = """
  .page { fill: #ffffff; }
  text { font-family: system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #1a1d21; }
  .title { font-size: 14px; font-weight: 600; } .line { font-size: 12px; }
  .label { font-size: 12px; fill: #565d66; }
  .data { fill: #eef0f3; stroke: #8a9099; } .step { fill: #e3edfc; stroke: #2f6fde; }
  .file { fill: #e4f4ee; stroke: #1f8a70; }
  .arrow { fill: none; stroke: #565d66; stroke-width: 1.6; } .head { fill: #565d66; }
  .result { fill: none; stroke: #1f8a70; stroke-width: 1.6; } .end { fill: #1f8a70; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #14171a; } text { fill: #e8eaed; } .label { fill: #a5adb8; }
    .data { fill: #23282e; stroke: #9aa2ad; } .step { fill: #1b2b47; stroke: #6ea3ff; }
    .file { fill: #15352c; stroke: #4fc3b4; }
    .arrow { stroke: #a5adb8; } .head { fill: #a5adb8; }
    .result { stroke: #4fc3b4; } .end { fill: #4fc3b4; }
  }
"""


def draw() -> str:
    """Return the picture as SVG text."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-label="From data through curation, pre-training and a weights file to '
        'segmentation, classification, registration and the report">',
        f"<style>{STYLE}</style>",
        f"<defs>{_marker('head')}{_marker('end')}</defs>",
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="8"/>',
        *(f'<path class="arrow" d="{path}" marker-end="url(#head)"/>' for path in ARROWS),
        *(f'<path class="result" d="{path}"/>' for path in JOINED),
        *(f'<path class="result" d="{path}" marker-end="url(#end)"/>' for path in RESULTS),
        *(line for box in BOXES for line in _box(*box)),
        *(
            f'<text class="label" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
            for x, y, anchor, text in LABELS
        ),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _marker(name: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path class="{name}" d="M0 0 L8 4 L0 8 Z"/></marker>'
    )


def _box(x: int, y: int, width: int, kind: str, title: str, below: str) -> tuple[str, ...]:
    middle, text = x + width / 2, 'text-anchor="middle"'
    return (
        f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{BOX_HEIGHT}" rx="8"/>',
        f'<text class="title" x="{middle}" y="{y + 29}" {text}>{escape(title)}</text>',
        f'<text class="line" x="{middle}" y="{y + 50}" {text}>{escape(below)}</text>',
    )


if __name__ == "__main__":
    TARGET.write_text(draw(), encoding="utf-8")
