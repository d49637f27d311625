"""Pages of results: their tables and figures are made from records, and from nothing else."""

import re
from functools import cache

import pytest

from tests.make_runs import COLUMN, ROOT, continual, make_run, write_suite
from utils.errors import UserError
from utils.plot import to_image
from utils.report import __main__ as report
from utils.report import pages
from utils.suite.file import read_cells, read_suite
from utils.suite.recorded import add_records

ROWS = {"Isolated": "--continual --tasks_per_round 1", "Model Zoo": "--continual --tasks_per_round 3"}
ACCURACY = {"Isolated": 0.7, "Model Zoo": 0.8}
PAGE = """# Words

Written by hand.

<!-- report small overview comparisons runs -->
<!-- end -->

<!-- summary
small / Digits, 1 epoch / Isolated
small / Digits, 1 epoch / Model Zoo
-->
old
<!-- end -->

<!-- gains
Model Zoo / Isolated
small
-->
<!-- end -->

![The gains](../results/model_zoo_isolated.png) and ![rounds](../results/small/rounds_digits_1_epoch.png)
"""


@pytest.fixture(scope="module")
def report_of(tmp_path_factory):
    """The reports of a suite of made-up runs, from its records alone."""
    folder = tmp_path_factory.mktemp("pages")
    names = {1: "Digits, 1 epoch", 2: "Digits, 2 epochs", 10: "Digits, 10 epochs"}
    columns = {name: COLUMN | {"flags": f"--epochs {epochs}"} for epochs, name in names.items()}
    suite = write_suite(folder / "small.yaml", rows=ROWS, columns=columns, seeds=[0, 1], flags="")
    cells = read_cells(read_suite(suite), suite, folder / "runs")
    for cell in cells:
        for seed in (0, 1):
            accuracy = ACCURACY[cell.row] + 0.01 * (cell.settings.epochs - 1) + 0.01 * seed
            make_run(cell.run_dir(seed), cell.settings_of(seed), continual(*[accuracy] * 5))
    add_records(folder, {cell.run(seed): cell.run_dir(seed) for cell in cells for seed in (0, 1)})

    @cache
    def make(name, *options):
        flags = report.read_flags(["--suite", str(suite), "--records", str(folder), *options])
        return report.Report(flags, read_suite(suite), cells, "")

    return make


def test_tables_stand_in_their_places_and_the_words_stay(report_of):
    page = pages.make_text(PAGE, report_of)
    assert "Written by hand." in page
    assert "| Isolated" in page
    assert "70.50 ± 0.71 (2)" in page
    assert re.search(r"Title +\| Digits, 1 epoch +\| Model Zoo +\| +80.50 ± 0.71 +\| +2 .*\+10.00 \(", page)
    assert re.search(r"Digits +\| conv +\| 2 +\| 0 1 +\| +\+10.00 \| \+10.00 to \+10.00 \| +5 ", page)
    assert re.search(r"Digits +\| conv +\| 1 +\| 1 +\| +\+10.00 \|", page)
    assert "12 of 12 planned runs, " in page
    assert "4 runs, " in page
    assert "old" not in page
    assert pages.make_text(page, report_of) == page


def test_a_changed_digit_is_found(report_of):
    page = pages.make_text(PAGE, report_of)
    assert pages.make_text(page.replace("70.50", "70.51"), report_of) == page


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("small overview", "small overwiew", "small: expected one of overview, details, comparisons, cost, runs"),
        ("small overview comparisons runs", "small", "small: expected one of overview, details, .*, got ''"),
        ("epoch / Model Zoo", "epoch / Zoo", "small: expected one of Digits, 1 epoch / Isolated, "),
        ("Model Zoo / Isolated", "Model Zoo", "gains: expected METHOD / OTHER, and below it a suite a line, got"),
        ("Model Zoo / Isolated\nsmall", "Model Zoo / Isolated", "gains: expected METHOD / OTHER, and below it"),
        ("Isolated\nsmall\n", "Isolated\nsmall\nsmall\n", "gains: expected one suite with Digits / "),
        ("runs -->\n<!-- end -->", "runs -->", "expected <!-- report, summary or gains, .* got '<!-- report small"),
        ("<!-- report", "<!-- reprot", "got '<!-- reprot small"),
        ("<!-- end -->", "<!-- End -->", "got '<!-- report small"),
        ("<!-- report small overview comparisons runs -->", "<!-- report -->", "got '<!-- report -->'"),
    ],
)
def test_what_is_not_there_is_named(report_of, old, new, message):
    with pytest.raises(UserError, match=message):
        pages.make_text(PAGE.replace(old, new), report_of)


def test_figures_are_those_of_the_page_and_have_equal_bytes(every_image, report_of):
    figures = pages.make_figures(PAGE, report_of)
    assert list(figures) == ["model_zoo_isolated", "small/rounds_digits_1_epoch"]
    (axes,) = figures["model_zoo_isolated"]().axes
    (bars,) = axes.containers
    assert bars.lines[0].get_xydata().round(6).tolist() == [[1, 0.1], [2, 0.1], [10, 0.1]]
    assert to_image(figures["model_zoo_isolated"]()) == to_image(figures["model_zoo_isolated"]())
    with pytest.raises(UserError, match=r"small: expected one of .*, got 'rounds'"):
        pages.make_figures("![](results/small/rounds.png)", report_of)
    with pytest.raises(UserError, match=r"gains: expected one of model_zoo_isolated, got 'zoo_isolated'"):
        pages.make_figures(PAGE.replace("model_zoo_isolated", "zoo_isolated"), report_of)
    with pytest.raises(UserError, match=r"gains: no suite has runs of both Zoo and Isolated"):
        pages.make_text(PAGE.replace("Model Zoo / Isolated", "Zoo / Isolated"), report_of)


def test_the_command_writes_the_page_and_its_figures(every_image, report_of, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(report, "recorded_report", report_of)
    (tmp_path / "results/small").mkdir(parents=True)
    (tmp_path / "page.md").write_text(PAGE)
    assert report.main(["--pages", str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text() == pages.make_text(PAGE, report_of)
    assert (tmp_path / "results/model_zoo_isolated.png").read_bytes().startswith(b"\x89PNG")
    assert report.main(["--pages", str(tmp_path / "no.md")]) == 2
    assert "no.md: expected a page of results" in capsys.readouterr().err


SHIPPED = [ROOT / "docs/results.md", ROOT / "README.md"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_tables_are_those_that_the_records_give(path):
    page = path.read_text()
    assert pages.make_text(page, report.recorded_report) == page, "run make results"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_figures_are_there_and_can_be_drawn(path):
    for name in pages.make_figures(path.read_text(), report.recorded_report):
        assert (ROOT / f"results/{name}.png").read_bytes().startswith(b"\x89PNG")


def test_numbers_in_the_words_are_those_of_the_tables():
    page, readme = (path.read_text() for path in SHIPPED)
    (section,) = [section for section in readme.split("\n## ") if section.startswith("Results\n")]
    texts = page + section
    tables = "".join(place.group() for place in pages.PLACE.finditer(texts))
    published = "".join(path.read_text() for path in (ROOT / "config/suite").iterdir())
    number = r"\d+\.\d\d\b"
    assert not {*re.findall(number, pages.PLACE.sub("", texts))} - {*re.findall(number, tables + published)}
