"""What a report has for a paper: LaTeX, figures as PDF, the best in bold, all pairs; and validation runs kept apart."""

import csv
import itertools
import re

import numpy as np
import pytest

from tests.make_runs import COLUMN, CONV, DIGITS, continual, make_run, write_suite
from utils.command_line import read_command
from utils.errors import UserError
from utils.plot import draw_accuracy, to_image
from utils.report import __main__ as report
from utils.report.latex import escape
from utils.suite.file import read_plan

ROWS = {"A & B_c 100%": "--tasks_per_round 1", "C": "--tasks_per_round 3", "[É] *{x}": "--tasks_per_round 2"}
COLUMNS = {"Digits #1": COLUMN, "x|y": COLUMN}
FINALS = {"A & B_c 100%": 0.5, "C": 0.8, "[É] *{x}": 0.799999}


def make_report(tmp_path, *flags, **suite):
    """The report of runs of two seeds that differ by 0.2; gives its exit status."""
    base = {"flags": "--epochs 1 --continual", "rows": ROWS, "columns": COLUMNS, "seeds": [0, 1]}
    path = write_suite(tmp_path / "suite.yaml", **base | suite)
    for cell in read_plan(path, tmp_path / "runs").cells:
        for seed in (0, 1):
            run, finals = cell.with_seed(seed), [FINALS[cell.method] - 0.1 + 0.2 * seed] * 5
            make_run(run.run_dir, run.settings, continual(*finals))
    return report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs"), *flags])


def written(tmp_path, name):
    return (tmp_path / "runs/report" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A & B_c 100%", r"A \& B\_c 100\%"),
        ("$x^{2}$ #1 ~", r"\$x\^{}\{2\}\$ \#1 \textasciitilde{}"),
        ("a\\b", r"a\textbackslash{}b"),
        ("80.00 ± 1.50", r"80.00 $\pm$ 1.50"),
        ("-1.50 to +2.00", "$-$1.50 to +2.00"),
        ("1.9e-06", r"1.9$\times10^{-6}$"),
        ("Zoo-5, wrn16-4, 10-11", "Zoo-5, wrn16-4, 10-11"),
        ("--lr", "-{}-lr"),
        ("two\n\n lines\x00", "two lines"),
        ("E\u0301lan", "Élan"),
        ("[1] *", "{[}1] {*}"),
        ("中文", "中文"),
    ],
)
def test_all_letters_are_text_to_latex(text, expected):
    assert escape(text) == expected


def braces_are_balanced(text):
    depths = itertools.accumulate({"{": 1, "}": -1}.get(letter, 0) for letter in re.sub(r"\\[{}\\]", "", text))
    return min(ends := list(depths)) == ends[-1] == 0


def test_report_tex_has_the_tables_of_a_paper(tmp_path):
    published = [{"row": "C", "percent": {"Digits #1": 79.0}, "source": "a_page & 5 %"}]
    assert make_report(tmp_path, "--metrics", "forgetting", published=published, title="T_1 & more") == 0
    text = written(tmp_path, "report.tex")
    assert braces_are_balanced(text)
    environments = re.findall(r"\\(begin|end)\{(\w+)\}", text)
    assert environments == [("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table")] * 4
    average = text[: text.index(r"\end{table}")]
    assert [average.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    head, _, *rows, _ = average[average.index("method &") : average.index(r"\end{tabular}")].splitlines()
    assert head == r"method & Digits \#1 & x\textbar{}y \\"
    assert rows == [
        r"A \& B\_c 100\% & 50.00 $\pm$ 14.14 & 50.00 $\pm$ 14.14 \\",
        r"C & 80.00 $\pm$ 14.14 & 80.00 $\pm$ 14.14 \\",
        r"\quad published & 79.00 &  \\",
        r"\quad difference & +1.00 &  \\",
        r"{[}É] {*}\{x\} & 80.00 $\pm$ 14.14 & 80.00 $\pm$ 14.14 \\",
    ]
    (caption,) = re.findall(r"\\caption\{(.*)\}", average)
    assert caption.startswith(
        r"T\_1 \& more. Average accuracy, test images, \%: mean $\pm$ standard deviation over seeds, n = 2."
    )
    assert caption.endswith(r"Published: a\_page \& 5 \%.")
    assert re.findall(r"\\label\{(.*)\}", text) == [f"tab:runs_report:{number}" for number in (1, 2, 3, 4)]
    assert "ctex" not in text
    unescaped = re.sub(r"\\.|\$(\\pm|-)\$|tab:\w+", "", text.split("\n", 2)[2])
    assert not re.search(r"[%$#_~^]", unescaped)


def test_letters_that_are_not_latin_are_told_in_a_comment(tmp_path):
    assert make_report(tmp_path, title="中文") == 0
    assert re.search(r"^%.*xelatex.*ctex", written(tmp_path, "report.tex"), re.MULTILINE)


def test_n_stands_with_each_number_where_it_differs(tmp_path):
    make_report(tmp_path)
    (tmp_path / "runs/c/x_y/s1/run.json").unlink()
    assert report.main(["--suite", str(tmp_path / "suite.yaml"), "--suite_dir", str(tmp_path / "runs")]) == 0
    text = written(tmp_path, "report.tex")
    assert "standard deviation over seeds (n)." in text
    assert r"C & 80.00 $\pm$ 14.14 (2) & 70.00 (1) \\" in text


def test_the_best_means_are_bold_equal_ones_too_and_published_never(tmp_path):
    published = [{"row": "A & B_c 100%", "percent": {"x|y": 99.0}, "source": "a page"}]
    assert make_report(tmp_path, "--bold_best", published=published) == 0
    text, page = written(tmp_path, "report.tex"), written(tmp_path, "report.md")
    assert text.count(r"\textbf{80.00 $\pm$ 14.14}") == text.count(r"\textbf") == 4
    assert page.count("**80.00 ± 14.14**") == page.count("**") / 2 == 4
    assert "Bold: the best mean of each benchmark" in text
    assert "Bold: the best mean of each benchmark" in page
    assert r"| x\|y" in page  # of a header too


def test_nothing_is_bold_unasked(tmp_path):
    assert make_report(tmp_path) == 0
    assert "**" not in written(tmp_path, "report.md")
    assert "textbf" not in written(tmp_path, "report.tex")


def test_all_pairs_are_compared(tmp_path):
    assert make_report(tmp_path, "--all_pairs") == 0
    with open(tmp_path / "runs/report/comparisons.csv", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    pairs = [(second, first) for first, second in itertools.combinations(ROWS, 2)]
    assert [(line["benchmark"], line["method"], line["against"]) for line in found] == [
        (column, *pair) for column in COLUMNS for pair in pairs
    ]
    assert r"{[}É] {*}\{x\} & C & +0.00 & " in written(tmp_path, "report.tex")


def test_validation_and_test_are_never_side_by_side(tmp_path, capsys):
    base = ["--data_config", str(DIGITS), "--hp_config", str(CONV), "--continual"]
    for name, flags in (("one", []), ("two", ["--validation", "0.1"])):
        make_run(tmp_path / name, read_command([*base, *flags]).settings, continual(*[0.5] * 5))
    folders = [str(tmp_path / name) for name in ("one", "two")]
    assert report.main([*folders, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "got test in continual-b5-e100 / split_digits-conv and validation in continual-b5-e100-v0.1 / " in said.err
    assert not (tmp_path / "out").exists()
    assert report.main(folders[1:]) == 0
    assert "Average accuracy, validation images, %" in capsys.readouterr().out


def test_validation_stands_in_every_title_and_published_numbers_are_left_out(tmp_path, monkeypatch):
    figures = []

    def keep(figure, kind):
        figures.append(figure)
        return b""

    monkeypatch.setattr("utils.report.report.to_image", keep)
    published = [{"row": "C", "percent": {"Digits #1": 79.0}, "source": "a page"}]
    flags = "--epochs 1 --continual --validation 0.1"
    assert make_report(tmp_path, flags=flags, published=published, sweep="tasks_per_round") == 0
    page, text = written(tmp_path, "report.md"), written(tmp_path, "report.tex")
    assert len(re.findall("^## .*validation (images|accuracy)", page, re.MULTILINE)) == 2
    assert len(re.findall(r"\\caption.*validation (images|accuracy)", text)) == 2
    assert "test accuracy" not in page + text
    assert "test images, " not in page + text
    assert "79.00" not in page + text
    assert "left out: the published numbers" in page
    assert {figure.axes[0].get_ylabel() for figure in figures} == {
        "validation accuracy",
        "average validation accuracy",
        "average validation accuracy of the tasks seen",
    }


def test_figures_are_pdfs_too_with_fonts_as_truetype_and_no_date(every_image, tmp_path):
    assert make_report(tmp_path, rows={"C": ROWS["C"]}, columns={"x|y": COLUMN}) == 0
    pngs, pdfs = ({path.stem for path in (tmp_path / "runs/report").glob(f"*.{kind}")} for kind in ("png", "pdf"))
    assert pngs == pdfs == {"evolution_c_x_y", "rounds_x_y"}
    assert all(path.read_bytes().startswith(b"%PDF") for path in (tmp_path / "runs/report").glob("*.pdf"))
    figures = [draw_accuracy(np.array(continual(0.5, 0.6)), ["é", "中文 $x$"], continual=True) for _ in range(2)]
    one, two = (to_image(figure, "pdf") for figure in figures)
    assert one == two
    assert one.startswith(b"%PDF")
    assert b"/FontFile2" in one
    assert b"CreationDate" not in one


@pytest.mark.parametrize("sweep", ["epochs", "samples", "validation", "lr", "model", "nesterov"])
def test_a_suite_sweeps_any_setting(tmp_path, sweep):
    assert read_plan(write_suite(tmp_path / "suite.yaml", sweep=sweep)).suite.sweep == sweep


@pytest.mark.parametrize("sweep", ["colour", "seed", "benchmark", "recipe_name"])
def test_a_sweep_of_what_is_no_setting_is_refused(tmp_path, sweep):
    with pytest.raises(UserError, match=rf"suite.yaml: sweep: expected one of method, .*, lr, .*got '{sweep}'"):
        read_plan(write_suite(tmp_path / "suite.yaml", sweep=sweep))
