"""A suite's file and flags, its mistakes, and which runs it consists of."""

import hashlib
import re
import shlex
from pathlib import Path

import pytest
from joblib.externals.loky.backend import context

from tests.make_runs import COLUMN, ROOT, continual, make_run, write_suite
from utils.command_line import Grow, read_command
from utils.errors import UserError
from utils.files import slug
from utils.suite import __main__ as suite
from utils.suite import command as suite_command
from utils.suite import run as suite_run
from utils.suite.file import read_labelled_csv, read_plan


def cells_of(path: Path):
    return read_plan(path, path.parent / "runs").cells


CURVES = ROOT / "config/suite/split_cifar100_single_epoch_curves.csv"
DIGITS = {"Digits": COLUMN}
SHIPPED = sorted((ROOT / "config/suite").glob("*.yaml"))
# Digests of all that a suite says, its published numbers among it, and of the files of published numbers.
GOLDEN = {
    "coarse_cifar100_competition.csv": "d77a500b532238fd",
    "competition.yaml": "c9756cbbc279c2e0",
    "demo.yaml": "b373f06d3215f9c2",
    "equal_cost.yaml": "53a1fd58c5d00cdc",
    "multi_epoch_conv.yaml": "2e52d734fb0d89ed",
    "notebook.yaml": "ff0b647cada7ee0a",
    "paper_multi_epoch.yaml": "e6f814ed111d6edb",
    "precision.yaml": "5b2c089be2a60a54",
    "replay.yaml": "f84431e9f08ac765",
    "single_epoch_conv.yaml": "d5f888e842036b05",
    "single_epoch_methods.yaml": "a36af65adcf33beb",
    "split_cifar100_single_epoch_curves.csv": "ccd5995329356e84",
    "tasks_per_round.yaml": "c7b309045aff37a5",
    "tune.yaml": "221c124d50b99b07",
    "wrn_first_tasks.yaml": "3b63490704443f11",
    "wrn_multi_epoch.yaml": "7ea36d5ddb6e7f2a",
}


def test_shipped_suites_and_published_numbers_are_as_they_were():
    content = {path.name: read_plan(path).suite.model_dump_json() for path in SHIPPED}
    content |= {path.name: read_labelled_csv(path).to_csv() for path in (ROOT / "config/suite").glob("*.csv")}
    digests = {name: hashlib.blake2b(text.encode(), digest_size=8).hexdigest() for name, text in content.items()}
    assert digests == GOLDEN


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_printed_command_can_be_run_as_it_is(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert suite.main([str(path), "--dry_run", "--device", "cpu", "--suite_dir", str(tmp_path / "runs")]) == 0
    commands = [shlex.split(line) for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert len(commands) == len(cells_of(path)) * len(read_plan(path).suite.seeds)
    for words in commands:
        assert words[:2] == ["python", "modelzoo.py"]
        assert isinstance(read_command(words[2:]), Grow)
    assert not (tmp_path / "runs").exists()


def test_flags_come_from_suite_column_and_row_the_last_counting(tmp_path):
    columns = {"C": COLUMN | {"flags": "--samples 9 --task_ids 3 1", "rows": ["Model Zoo, b = 2"]}}
    (cell,) = cells_of(write_suite(tmp_path / "suite.yaml", columns=columns))
    assert (cell.settings.epochs, cell.settings.samples, cell.settings.tasks_per_round) == (1, 9, 2)
    assert cell.settings.benchmark.tasks == ((6, 7), (2, 3))
    assert cell.folder == tmp_path / "runs/model_zoo_b_2/c"


def test_a_row_unsets_what_the_suite_sets(tmp_path):
    rows = {"A": "", "B": "--samples all --task_ids all --num_rounds all --tasks_per_round all --naive false"}
    flags = "--epochs 1 --samples 9 --task_ids 3 1 --num_rounds 1 --tasks_per_round 2 --naive"
    a, b = (
        cell.settings for cell in cells_of(write_suite(tmp_path / "x.yaml", flags=flags, rows=rows, columns=DIGITS))
    )
    assert (a.samples, len(a.benchmark.tasks), a.total_rounds, a.max_per_round, a.naive) == (9, 2, 1, 2, True)
    assert (b.samples, len(b.benchmark.tasks), b.total_rounds, b.max_per_round, b.naive) == (None, 5, 5, 5, False)


def test_a_cells_run_with_the_number_is_its_run_with_all(tmp_path):
    path = write_suite(tmp_path / "suite.yaml", rows={"All": "--tasks_per_round all", "Two": "--tasks_per_round 2"})
    every, two = cells_of(path)
    assert not every.settings.differences(two.settings)


def test_from_another_folder_the_projects_files_are_found_and_the_folders_own_come_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for path in SHIPPED:
        assert cells_of(Path("config/suite") / path.name)
    competition = read_plan(Path("config/suite/competition.yaml")).suite.competition
    assert len(read_labelled_csv(competition.file)) == 20
    argv = ["--device", "cpu", "--dry_run", "--only", "seed 0"]
    assert suite.main(["config/suite/demo.yaml", *argv]) == 0
    (_, command, *_) = capsys.readouterr().out.splitlines()
    assert command.startswith(f"python {ROOT}/modelzoo.py --data_config config/dataset/split_digits.yaml ")
    assert "--run_dir runs/demo/" in command  # from the current folder
    (tmp_path / "config/suite").mkdir(parents=True)
    write_suite(tmp_path / "config/suite/demo.yaml", rows={"Mine": "--continual"})
    assert suite.main(["config/suite/demo.yaml", *argv]) == 0
    assert "# Mine / Digits / seed 0: new" in capsys.readouterr().out
    assert suite.main(["config/suite/nowhere.yaml"]) == 2
    expected = f"config/suite/nowhere.yaml: no such file, seen from {' or '.join(sorted({str(tmp_path), str(ROOT)}))}"
    assert capsys.readouterr().err == f"utils.suite: {expected}\n"


def test_a_name_in_any_script_gives_a_folder_of_its_own():
    assert slug("Model Zoo, b = 5") == "model_zoo_b_5"
    assert slug("a__B..c \u2013 1.") == "a_b..c_1"
    names = [
        "猫",
        "狗",
        "Zoo é",
        "Zoo è",
        "Zoo",
        "x" * 200,
        "x" * 300,
        "x" * 301,
        "é" * 300,
        "٣",
        "kelvin",
        "\u212aelvin",
    ]
    slugs = [slug(name) for name in names]
    assert len(set(slugs)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9._]{0,210}", made) for made in slugs)
    assert slug("ZOO É") == slug("zoo é")  # a file system may not tell them apart
    assert slug("*") == slug("\u2013") == ""
    assert (slug("DER"), slug("DER++")) == ("der", "der_plus_plus")


def test_rows_in_chinese_are_rows(tmp_path):
    path = write_suite(tmp_path / "suite.yaml", rows={"猫": "--continual", "狗": "--continual --naive"})
    assert len({cell.folder for cell in cells_of(path)}) == 2


def published(row="Isolated", column="Digits", metric="average_accuracy"):
    return {"row": row, "metric": metric, "percent": {column: 1.0}, "source": "s"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"flags": "--epoch 1"},
            "row Isolated, column Digits: flags: expected some of --task_ids --hp_config --method",
        ),
        ({"flags": "--epochs 1 --seed=3"}, "got '--seed=3'"),
        ({"flags": "--help"}, "got '--help'"),
        ({"flags": "--samples '5"}, "expected words as on a command line"),
        ({"flags": "--naive maybe"}, "row Isolated, column Digits: --naive: expected a valid boolean"),
        ({"rows": {"A": "--num_rounds 3 --continual"}}, "num_rounds: expected at most 2"),
        ({"rows": {}}, "rows:"),
        ({"rows": {"A b": "", "a-B": ""}}, "rows: expected names that differ"),
        ({"columns": {"C": COLUMN | {"benchmark": "nowhere.yaml"}}}, "column C: nowhere.yaml: no such file"),
        ({"columns": {"C": COLUMN | {"flags": "--task_ids 0 5"}}}, "column C: --task_ids: expected ids 0..4"),
        ({"columns": {"C": COLUMN | {"rows": ["Nobody"]}}}, "columns.C.rows: expected one of Isolated"),
        ({"columns": {"C": COLUMN | {"colour": 1}}}, "columns.C.colour:"),
        ({"published": [published(row="X")]}, "published.row: expected one of"),
        ({"published": [published(column="X")]}, "published.percent: expected one of Digits, got 'X'"),
        ({"published": [published(metric="X")]}, "published.metric: expected one of"),
        ({"published": [published(), published()]}, "published: expected a number once"),
        ({"metrics": ["X"]}, "metrics: expected one of"),
        ({"curves": {"column": "X", "file": str(CURVES), "source": "s"}}, "curves.column: expected one of Digits"),
        ({"curves": {"column": "Digits", "file": "no.csv", "source": "s"}}, "no.csv: no such file"),
        ({"seeds": []}, "seeds:"),
        ({"seeds": [0, 1, 2, 2]}, "seeds: expected each once, got [0, 1, 2, 2]"),
        ({"seeds": [2**63]}, "seeds[0]: expected less than 9223372036854775808"),
    ],
)
def test_a_mistake_in_the_file_is_a_line_and_status_2_before_anything_starts(values, message, tmp_path, capsys):
    path = write_suite(tmp_path / "suite.yaml", **values)
    assert suite.main([str(path), "--suite_dir", str(tmp_path / "runs"), "--device", "cpu"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "published.csv: expected published numbers as csv, a header and lines of a name and as many numbers"),
        ("row,A,B\n", "published.csv: expected published numbers as csv"),
        ("row\nA\n", "published.csv: expected published numbers as csv"),
        ("row,A,B\nA,0,1,2,3\nB,4,0\n", "published.csv: expected published numbers as csv"),
        ("row,A,B\nA,0,x\nB,4,0\n", "published.csv: expected published numbers as csv"),
        ("row,A,B\nA,0,1\nA,4,0\n", "a line's name is there twice"),
        ("row,A,\xff\n", "published.csv: expected published numbers as csv"),
        ("row,A,B\nA,0,1\n", "competition.names: expected one of A, got 'B'"),
        ("row,A\nA,0\nB,1\n", "competition.names: expected one of A, got 'B'"),
    ],
)
def test_published_numbers_that_are_damaged_are_told_before_anything_starts(content, message, tmp_path, capsys):
    (tmp_path / "published.csv").write_bytes(content.encode("latin-1"))
    published = {"file": str(tmp_path / "published.csv"), "source": "s"}
    parts = {"competition": {**published, "names": {"A": "6 and 7", "B": "2 and 3"}}}
    if "competition" not in message:
        parts["curves"] = {**published, "column": "Digits"}
    for key, value in parts.items():
        path = write_suite(tmp_path / "suite.yaml", **{key: value})
        assert suite.main([str(path), "--suite_dir", str(tmp_path / "runs"), "--device", "cpu"]) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
        assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--only", "nobody"], "--only: expected words of a name such as 'Isolated / Digits / seed 0', got 'nobody'"),
        (["--device", "nonsense"], "--device: "),
        (["--device", "cuda:0", "--ray"], "device: expected cuda beside --ray"),
        (["--device", "cuda:99"], "--device: expected one that is there"),
        (["--checkpoint_every_sec", "nan"], "--checkpoint_every_sec: expected a finite number, got 'nan'"),
        (["--jobs", "0"], "--jobs: expected greater than or equal to 1, got '0'"),
        (["--jobs", "1", "--ray", "auto"], "jobs: with an address for --ray the cluster decides"),
        (["--colour"], "unrecognized arguments: --colour"),
        (["stray"], "unrecognized arguments: stray"),
        (["--dry_run", "false", "--jobs", "1"], "unrecognized arguments: false"),
        (["-jobs", "1"], "unrecognized arguments: -jobs"),
        (["\u2014jobs", "1"], "unrecognized arguments: \u2014jobs 1"),
        (
            ["--suite_dir", f"{ROOT}/README.md/runs", "--device", "cpu"],
            "README.md/runs/isolated/digits: the folder cannot be written",
        ),
    ],
)
def test_a_wrong_flag_is_a_line_and_status_2(argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(suite, "has_data", lambda run, stopping: True)  # they are; looking takes a process of seconds
    path = write_suite(tmp_path / "suite.yaml")
    assert suite.main([str(path), "--suite_dir", str(tmp_path / "runs"), *argv]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


def test_dry_run_prints_commands_and_writes_nothing(tmp_path, capsys):
    path = write_suite(tmp_path / "suite.yaml")
    argv = ["--suite_dir", str(tmp_path / "runs"), "--seeds", "4", "5", "4", "--only", "isolated", "--dry_run"]
    assert suite.main([str(path), *argv, "--device", "cpu", "--threads", "3", "--no_download"]) == 0
    out = capsys.readouterr().out
    assert "# Isolated / Digits / seed 5: new" in out
    where = f"--seed 5 --run_dir {tmp_path}/runs/isolated/digits/s5 --resume"
    assert f" --device cpu --threads 3 --no_download {where}\n" in out
    assert "# 2 runs, 0 of them complete" in out
    assert list(tmp_path.iterdir()) == [path]


def test_a_containers_quota_and_the_affinity_count_as_cores(monkeypatch):
    monkeypatch.setattr(context.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(context, "_cpu_count_affinity", lambda _: 32)
    for quota, cores in ((64, 32), (2, 2)):
        monkeypatch.setattr(context, "_cpu_count_cgroup", lambda _, quota=quota: quota)
        assert suite_run.cpu_count() == cores


def test_a_run_may_have_all_cores(monkeypatch):
    monkeypatch.setattr(suite_command, "cpu_count", lambda: 16)
    assert suite_command.read_command(["x.yaml", "--threads", "all"]).threads == 16
    with pytest.raises(UserError, match="--threads: expected a valid integer, or all, got 'none'"):
        suite_command.read_command(["x.yaml", "--threads", "none"])


def test_slots_share_out_the_cores_or_the_gpus(monkeypatch):
    monkeypatch.setattr(suite_run, "cpu_count", lambda: 16)
    assert suite_run.visible_gpus("cpu") == []
    for jobs, threads, num_slots in ((None, 1, 16), (None, 5, 3), (None, 99, 1), (3, 1, 3)):
        assert suite_run.slots_of([], jobs=jobs, per_gpu=1, threads=threads) == [{}] * num_slots
    slots = suite_run.slots_of(["0", "2"], jobs=None, per_gpu=2)
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["0", "2", "0", "2"]
    assert len(suite_run.slots_of(["0", "2"], jobs=3, per_gpu=1)) == 3


def test_runs_that_are_not_asked_for_may_have_other_settings(tmp_path, capsys):
    path = write_suite(tmp_path / "suite.yaml")
    cell = cells_of(path)[0]
    make_run(cell.with_seed(0).run_dir, cell.settings.model_copy(update={"epochs": 7}), continual(0.5, 0.5))
    argv = [str(path), "--suite_dir", str(tmp_path / "runs"), "--device", "cpu", "--dry_run"]
    assert suite.main([*argv, "--only", "model zoo"]) == 0
    assert suite.main([*argv, "--only", "isolated"]) == 2
    err = capsys.readouterr().err
    assert "not the suite's settings, which differ in epochs" in err
    assert err.endswith("; take another --suite_dir, or move the run folder elsewhere\n")


def test_only_runs_with_these_words_in_their_names():
    names = [f"Zoo / {column} / seed {seed}" for column in ("Split-CIFAR10", "Split-CIFAR100") for seed in (1, 10)]
    chosen = {"seed 1": [0, 2], "split-cifar10": [0, 1], "CIFAR10 / seed 10": [1], "": [0, 1, 2, 3], "1 %": []}
    for text, places in chosen.items():
        assert [place for place, name in enumerate(names) if suite.matches(text, name)] == places
    assert suite.matches("1 %", "1 % / C / seed 0")
    assert not suite.matches("0+1", "Multi-Head / 0+10 / seed 0")
