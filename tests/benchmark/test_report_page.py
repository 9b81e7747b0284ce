"""The page: what it says, what it refuses, and how a browser shows it."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nnunet_triad.benchmark.cli import app
from nnunet_triad.benchmark.execute import execute
from nnunet_triad.benchmark.report.svg import SvgMaker
from nnunet_triad.benchmark.runs import Run, paper_runs
from nnunet_triad.cli import run_app
from nnunet_triad.errors import UserError
from nnunet_triad.evaluation import append_results
from tests.benchmark import chromium, simulated

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def report(*arguments):
    result = CliRunner().invoke(app, ["report", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("results") / "results.csv"
    rows = [*simulated.segmentation(), *simulated.classification(), *simulated.registration()]
    append_results(path, rows)
    return path


@pytest.fixture(scope="module")
def page(results: Path) -> Path:
    """A page with every kind of table and chart, a picture, and a title that wants escaping."""
    output = results.parent / "page.html"
    picture = results.parent / "a_picture.png"
    picture.write_bytes(PIXEL)
    report(
        results.parent / "none", "--results", results, "--output", output, "--resamples", "200",
        "--title", "Simulated <results> & more", "--figure", picture,
        "--caption", 'A "picture" <of> nothing',
    )  # fmt: skip
    return output


class Structure(HTMLParser):
    """Collects what a test asks about: ids, tags and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def test_page_is_self_contained(page):
    structure = Structure(page.read_text())
    sources = [a["src"] for a in structure.all("img")]
    links = [a[name] for _, a in structure.tags for name in ("href", "xlink:href") if name in a]
    assert links
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not structure.all("script")


def test_page_escapes_what_it_is_told(page):
    text = page.read_text()
    assert "Simulated &lt;results&gt; &amp; more" in text
    assert "<results>" not in text
    assert "<of>" not in text


def test_page_can_be_read_without_seeing_it(page):
    structure = Structure(page.read_text())
    assert all(image["alt"] for image in structure.all("img"))
    drawings = structure.all("svg")
    assert len(drawings) > 10
    assert all(d["role"] == "img" and len(d["aria-label"]) > 20 for d in drawings)
    assert all(header.get("scope") for header in structure.all("th"))
    assert all(table.get("aria-labelledby") for table in structure.all("table"))
    assert structure.all("html")[0]["lang"] == "en"
    regions = [a for tag, a in structure.tags if "scroll" in (a.get("class") or "").split()]
    assert len(regions) > 5
    assert all(r["tabindex"] == "0" and r["aria-labelledby"] for r in regions)


def test_ids_are_distinct_and_references_lead_somewhere(page):
    structure = Structure(page.read_text())
    ids = [a["id"] for _, a in structure.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    wanted = [a["href"][1:] for tag, a in structure.tags if (a.get("href") or "").startswith("#")]
    wanted += [a["aria-labelledby"] for _, a in structure.tags if a.get("aria-labelledby")]
    wanted += re.findall(r"url\(#([^)]+)\)", page.read_text())
    assert set(wanted) <= set(ids)


def test_page_has_the_kinds_of_charts_of_the_papers_figures(page):
    labels = [drawing["aria-label"] for drawing in Structure(page.read_text()).all("svg")]
    for kind in ("Bar chart", "Radar chart", "ROC curves", "Box plots", "Differences to Scratch"):
        assert any(label.startswith(kind) for label in labels), kind
    assert page.read_text().count('class="confusion"') == 2 * 3


def test_chart_of_a_dataset_that_was_not_run_says_so(tmp_path):
    rows = [
        r
        for r in simulated.segmentation(num_cases=3)
        if (r.dataset, r.initialization) != ("MSD-BrainTumour", "voco")
    ]
    append_results(tmp_path / "r.csv", rows)
    report(tmp_path, "--results", tmp_path / "r.csv", "--output", tmp_path / "p.html")
    drawings = Structure((tmp_path / "p.html").read_text()).all("svg")
    labels = [drawing["aria-label"] for drawing in drawings]
    radars = [label for label in labels if label.startswith("Radar chart")]
    assert all("VoCo: " in label and "MSD-BrainTumour edema not run" in label for label in radars)
    assert len(radars) == 2
    assert not any(re.search(r"\bnan\b", label) for label in labels)


def test_undefined_values_are_not_spoken_as_numbers(tmp_path):
    rows = [
        simulated.Result(**{**vars(r), "value": float("nan")}) if r.dataset == "BreastDM" else r
        for r in simulated.segmentation(num_cases=3)
    ]
    append_results(tmp_path / "r.csv", rows)
    report(tmp_path, "--results", tmp_path / "r.csv", "--output", tmp_path / "p.html")
    drawings = Structure((tmp_path / "p.html").read_text()).all("svg")
    assert any("BreastDM tumour no value" in drawing["aria-label"] for drawing in drawings)
    assert not any(re.search(r"\bnan\b", drawing["aria-label"]) for drawing in drawings)


def test_legend_of_a_section_has_what_is_drawn_in_it(tmp_path):
    rows = [*simulated.segmentation(num_cases=3, initializations=("scratch", "triad"))]
    rows += [r for r in simulated.registration(num_cases=3) if r.initialization != "triad"]
    append_results(tmp_path / "r.csv", rows)
    report(tmp_path, "--results", tmp_path / "r.csv", "--output", tmp_path / "p.html")
    text = (tmp_path / "p.html").read_text()
    legends = [
        re.findall(r"</span>(\w+)</span>", part)
        for part in re.findall(r'<ul class="legend".*?</ul>', text, re.DOTALL)
    ]
    assert legends == [["Scratch", "Triad"], ["Scratch", "VoCo"]]


@pytest.mark.parametrize("name", ["r", "folder/../r"])
def test_table_that_is_reported_is_not_replaced_by_the_pages_csv(tmp_path, name):
    (tmp_path / "folder").mkdir()
    append_results(tmp_path / "r.csv", simulated.registration(num_cases=3))
    before = (tmp_path / "r.csv").read_bytes()
    with pytest.raises(UserError, match=r"r\.csv: expected an output that is none of the inputs"):
        report(
            tmp_path, "--results", tmp_path / "r.csv", "--output", f"{tmp_path / name}.html"
        )  # fmt: skip
    assert (tmp_path / "r.csv").read_bytes() == before


def test_no_stand_in_colour_is_left(page):
    assert not re.search(r"#0[1-3]0[1-3]0[1-3]\b|#0a0a0\d|#0b00\w\w", page.read_text())


def test_each_initialisation_has_a_colour_of_its_own(tmp_path):
    names = ["scratch", "triad", "voco", *(f"own{number}" for number in range(12))]
    rows = [
        simulated.Result(
            task="segmentation", dataset="Dataset500_Own", architecture="unet", fold=0,
            initialization=name, case=f"{case}", label="lesion", metric="dice", value=0.5,
        )
        for name in names for case in range(2)
    ]  # fmt: skip
    append_results(tmp_path / "r.csv", rows)
    report(tmp_path / "b", "--results", tmp_path / "r.csv", "--output", tmp_path / "p.html")
    text = (tmp_path / "p.html").read_text()
    legend = re.search(r'<ul class="legend".*?</ul>', text, re.DOTALL)[0]
    shown = re.findall(r"background:var\((.*?)\)", legend)
    values = [re.search(rf"{name}: (#\w+|hsl\(.*?\));", text)[1] for name in shown]
    assert len(shown) == len(set(shown)) == len(set(values)) == len(names)


def test_same_results_make_the_same_page(results, page, tmp_path):
    again = tmp_path / "page.html"
    report(tmp_path, "--results", results, "--output", again, "--resamples", "200")
    charts = [re.findall(r"<svg.*?</svg>", p.read_text(), re.DOTALL) for p in (page, again)]
    assert charts[0] == charts[1]
    assert page.with_suffix(".csv").read_text() == again.with_suffix(".csv").read_text()


def test_own_datasets_are_reported_without_a_column_for_the_paper(tmp_path):
    rows = [
        simulated.Result(
            task="segmentation", dataset="Dataset500_Phantom", architecture="swin_t",
            initialization=name, fold=0, case=f"{case}", label="lesion", metric="dice",
            value=0.4 + 0.1 * case,
        )
        for name in ("Scratch", "Triad") for case in range(4)
    ]  # fmt: skip
    append_results(tmp_path / "r.csv", rows)
    report(
        tmp_path / "b", "--results", tmp_path / "r.csv", "--output", tmp_path / "demo.html",
        "--note", "A toy <of> minutes", "--note", "Nothing else was run",
    )  # fmt: skip
    text = (tmp_path / "demo.html").read_text()
    assert "Dataset500_Phantom" in text
    assert "Ours \N{MINUS SIGN} paper" not in text
    assert "prints no number for what was run here" in text
    assert "not been run" not in text
    assert "Wang et al." not in text
    warning = text.index("With fewer than 6 cases, Wilcoxon")
    assert (
        warning
        < text.index("on 4 cases: too few cases to say")
        < text.index('id="segmentation-tests"')
    )
    assert "A toy &lt;of&gt; minutes" in text
    assert "Nothing else was run" in text


def test_folder_is_reported_with_what_has_not_been_run(workplace):
    for initialization in ("scratch", "triad"):
        run = Run(
            task="segmentation",
            dataset="BraTS21",
            architecture="unet",
            initialization=initialization,
        )
        execute(run, workplace.environment)
    report(workplace.environment.folder)
    text = (workplace.environment.folder / "report.html").read_text()
    planned = len(paper_runs())
    assert f"2 of {planned} planned runs are finished" in text
    assert f"{planned - 2} of {planned} planned runs have no result" in text
    assert "All datasets, nnU-Net (31M) (1 of 17)" in text


def test_name_that_is_nearly_the_papers_is_pointed_out(tmp_path):
    row = next(iter(simulated.registration()))
    append_results(tmp_path / "r.csv", [simulated.Result(**{**vars(row), "dataset": "OASIS1"})])
    result = report(tmp_path, "--results", tmp_path / "r.csv", "--output", tmp_path / "p.html")
    sentence = "OASIS1 is no dataset of the paper; was OASIS meant?"
    assert sentence in result.stderr
    assert sentence in (tmp_path / "p.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected results tables of finished runs, got none; triad-benchmark run makes them"),
        (("--results", "no.csv"), "expected a results table .CSV., got no file"),
        (("--results", "other.csv"), "expected a results table with the columns task"),
        (("--results", "empty.csv"), "expected a results table .CSV., got an empty file"),
        (("--results", "norows.csv"), "expected rows of the metrics dice or correct, got none"),
        (("--results", "task.csv"), "task: expected one of segmentation, .* got .detection"),
        (("--results", "percent.csv"), "dice: expected shares from 0 to 1, got 79.3 for case-000"),
        (("--results", "."), "expected a results table .CSV., got a folder"),
        (("--results", "ok.csv", "--output", "x.pdf"), "expected a file that ends in .html"),
        (("--results", "ok.csv", "--output", "d.html"), "d.html: expected a file, got a folder"),
        (("--results", "ok.csv", "--figure", "x.tiff"), "figure: expected one of .png"),
        (("--results", "ok.csv", "--figure", "no.png"), "expected a picture at .*no.png, got no"),
        (("--results", "ok.csv", "--figure", "fake.png"), "expected a PNG or JPEG picture"),
        (("--results", "ok.csv", "--caption", "x"), "caption: expected at most one a figure"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    row = next(iter(simulated.registration()))
    append_results(Path("ok.csv"), [row])
    append_results(Path("percent.csv"), [simulated.Result(**{**vars(row), "value": 79.3})])
    append_results(Path("norows.csv"), [simulated.Result(**{**vars(row), "metric": "hd95"})])
    append_results(Path("task.csv"), [simulated.Result(**{**vars(row), "task": "detection"})])
    Path("other.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    Path("empty.csv").touch()
    Path("d.html").mkdir()
    Path("fake.png").write_text("no picture", encoding="utf-8")
    with pytest.raises(UserError, match=message):
        report("folder", *arguments)
    assert [path.name for path in tmp_path.rglob("*.html")] == ["d.html"]


@pytest.mark.parametrize("number", ["5", "100001"])
def test_number_of_resamples_out_of_range_is_one_line(monkeypatch, capsys, number):
    monkeypatch.setattr("sys.argv", ["triad-benchmark", "report", "--resamples", number])
    with pytest.raises(SystemExit, match="2"):
        run_app(app)
    line = f"error: --resamples: expected 100 or more and at most 100000, got {number}\n"
    assert capsys.readouterr().err == line


def test_figures_ids_do_not_collide():
    svg = SvgMaker()
    ids = []
    for _ in range(2):
        with svg.figure(2, 2) as figure:
            figure.subplots().plot([0, 1], [0, 1])
        ids += re.findall(r'\bid="([^"]+)"', svg.render(figure, label="a line"))
    assert len(ids) == len(set(ids)) > 4


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    if chromium.find_chromium() is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    with chromium.browse(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_browser_shows_the_page_without_an_error_or_overflow(browser, page, width, scheme):
    browser.open(page, width=width, scheme=scheme)
    assert browser.messages == []
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(chromium.OVERFLOWING) == []
    target = page.parent / f"{width}_{scheme}.png"
    browser.screenshot(target)
    assert target.stat().st_size > 50_000


def test_colours_follow_the_scheme_and_text_has_contrast(browser, page):
    backgrounds = []
    for scheme in ("light", "dark"):
        browser.open(page, width=1280, scheme=scheme)
        backgrounds.append(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
        for element in ("body", ".lead", "svg text", "a[href='#methods']"):
            ratio = browser.evaluate(CONTRAST % element)
            assert ratio >= 4.5, (scheme, element, ratio)
    assert backgrounds[0] != backgrounds[1]


def test_keyboard_reaches_the_skip_link_first_and_then_the_tables(browser, page):
    browser.open(page, width=1280, scheme="light")
    browser.press_tab()
    assert browser.evaluate("document.activeElement.className") == "skip"
    assert browser.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    for _ in range(6):
        browser.press_tab()
    assert browser.evaluate("document.activeElement.classList.contains('scroll')")


# WCAG 2.1's contrast ratio of an element's text against the page.
CONTRAST = """
(() => {
  const light = text => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const element = document.querySelector("%s");
  const style = getComputedStyle(element);
  const text = element.closest('svg') ? style.fill : style.color;
  const pair = [light(text), light(getComputedStyle(document.body).backgroundColor)];
  return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
})()
"""
