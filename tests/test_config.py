"""Settings from the command line, benchmarks and recipes, and the mistakes in them."""

import math
import re
from pathlib import Path

import pytest

from tests.small_runs import ROOT, write_yaml
from utils.command_line import Grow, Use, read_command
from utils.config import Recipe, read_benchmark, read_file, settings_to_yaml
from utils.errors import UserError

RECIPE = {"model": "wrn16_4", "batch": 16, "lr": 0.01, "l2_reg": 0.00001, "dropout": 0.2}
BENCHMARK = {"dataset": "cifar100", "tasks": [[4, 30, 55, 72, 95], [1, 32, 67, 73, 91]]}
BENCHMARK_FILES = sorted((ROOT / "config/dataset").glob("*.yaml"))
RECIPE_FILES = sorted((ROOT / "config/hyperparam").glob("*.yaml"))
PAPERS = ("split_mnist", "rotated_mnist", "permuted_mnist", "split_cifar10", "split_cifar100", "coarse_cifar100")


@pytest.fixture
def files(tmp_path):
    """Flags that name a benchmark and a recipe which may be changed."""

    def write(*, recipe=None, benchmark=None):
        write_yaml(tmp_path / "recipe.yaml", **RECIPE | (recipe or {}))
        write_yaml(tmp_path / "benchmark.yaml", **BENCHMARK | (benchmark or {}))
        return ["--hp_config", str(tmp_path / "recipe.yaml"), "--data_config", str(tmp_path / "benchmark.yaml")]

    return write


def resolved(*argv):
    return read_command(list(map(str, argv))).settings


# ---- what comes with the program


@pytest.mark.parametrize("path", BENCHMARK_FILES, ids=lambda path: path.stem)
def test_every_benchmark_that_comes_along_is_valid_and_names_its_tasks(path):
    benchmark = read_benchmark(path)
    assert len(set(benchmark.names)) == len(benchmark.tasks)


PAPER = {
    "batch": 16,
    "lr": 0.01,
    "l2_reg": 0.00001,
    "momentum": 0.9,
    "nesterov": True,
    "schedule": "cosine",
    "augment": "auto",
    "precision": "auto",
    "lr_decay": 1.0,
}
RECIPES = {
    "wrn": PAPER | {"model": "wrn16_4", "dropout": 0.2},
    "conv": PAPER | {"model": "conv", "dropout": 0.0},
    "notebook": PAPER
    | {"model": "conv", "dropout": 0.0, "batch": 32, "schedule": "constant", "augment": "none"}
    | {"precision": "fp32"},
    "tag": {"model": "resnet18_20", "batch": 10, "lr": 0.1, "l2_reg": 0.0, "dropout": 0.0}
    | {"momentum": 0.0, "nesterov": False, "schedule": "constant", "augment": "none"}
    | {"precision": "fp32", "lr_decay": 1.0},
}


@pytest.mark.parametrize("path", RECIPE_FILES, ids=lambda path: path.stem)
def test_every_recipe_that_comes_along_is_as_published(path):
    assert read_file(Recipe, path).model_dump() == RECIPES[path.stem]


def test_the_benchmarks_of_the_paper_and_the_bundled_one_come_along():
    assert {path.stem for path in BENCHMARK_FILES} >= {*PAPERS, "split_miniimagenet", "split_digits"}
    sizes = {
        name: [len(task) for task in read_benchmark(ROOT / f"config/dataset/{name}.yaml").tasks] for name in PAPERS
    }
    assert sizes == {
        "split_mnist": [2] * 5,
        "rotated_mnist": [10] * 5,
        "permuted_mnist": [10] * 5,
        "split_cifar10": [2] * 5,
        "split_cifar100": [5] * 20,
        "coarse_cifar100": [5] * 20,
    }


def test_the_defaults_are_the_designs():
    command = read_command([])
    assert isinstance(command, Grow)
    chosen, options = command.settings, command.options
    assert chosen.run_name == "coarse_cifar100-wrn-multitask-b5-e100-s100"
    assert (chosen.total_rounds, chosen.replay_frac, chosen.samples) == (20, 1, None)
    assert (chosen.naive, chosen.warm_start) == (False, False)
    assert (options.data_dir, options.run_dir, options.device, options.threads) == (Path("data"), None, "auto", None)
    assert (options.no_download, options.resume, options.overwrite) == (False, False, False)
    assert (options.check_data, options.dry_run) == (False, False)
    assert options.checkpoint_every_sec == 300


# ---- flags


@pytest.mark.parametrize(
    ("flag", "key", "value"),
    [
        (["--epochs", "3"], "epochs", 3),
        (["--continual"], "continual", True),
        (["--tasks_per_round", "1"], "tasks_per_round", 1),
        (["--tasks_per_round", "all"], "tasks_per_round", "all"),
        (["--tasks_per_round", "all"], "max_per_round", 2),
        (["--num_rounds", "7"], "num_rounds", 7),
        (["--continual", "--replay_frac", "0.1"], "replay_frac", 0.1),
        (["--samples", "9"], "samples", 9),
        (["--naive"], "naive", True),
        (["--warm_start"], "warm_start", True),
        (["--seed", "0"], "seed", 0),
        (["--seed", str(2**63 - 1)], "seed", 2**63 - 1),
        (["--task_ids", "1"], "total_rounds", 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_each_flag_reaches_the_settings(files, flag, key, value):
    without, chosen = resolved(*files()), resolved(*files(), *flag)
    assert getattr(chosen, key) == value
    assert getattr(without, key) != value


@pytest.mark.parametrize(
    ("flag", "key", "value"),
    [
        (["--data_dir", "elsewhere"], "data_dir", Path("elsewhere")),
        (["--no_download"], "no_download", True),
        (["--run_dir", "there"], "run_dir", Path("there")),
        (["--resume"], "resume", True),
        (["--overwrite"], "overwrite", True),
        (["--device", "cpu"], "device", "cpu"),
        (["--threads", "2"], "threads", 2),
        (["--compile"], "compile", True),
        (["--checkpoint_every_sec", "7"], "checkpoint_every_sec", 7),
        (["--check_data"], "check_data", True),
        (["--dry_run"], "dry_run", True),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_each_option_is_read_and_is_no_setting(files, flag, key, value):
    without, command = read_command(files()), read_command([*files(), *flag])
    assert getattr(command.options, key) == value
    assert getattr(without.options, key) != value
    assert command.settings == without.settings


def test_some_tasks_of_a_benchmark_keep_their_names(files):
    names = {"benchmark": {"task_names": ["mammals", " fish "]}}  # blanks at the ends do not count
    chosen = resolved(*files(**names), "--task_ids", "1", "0")
    assert chosen.benchmark.tasks == tuple(map(tuple, reversed(BENCHMARK["tasks"])))
    assert chosen.benchmark.names == ("fish", "mammals")
    assert resolved(*files(), "--task_ids", "1").benchmark.names == ("task 1",)
    assert resolved(*files(), "--task_ids", "1").run_name.startswith("benchmark-t1-recipe-")


def test_a_zoo_that_was_grown_is_used_by_other_commands():
    assert read_command(["--evaluate", "x"]) == Use(run_dir=Path("x"), options=read_command([]).options)
    command = read_command(["--predict", "x", "--task", "fish", "a.png", "b.png"])
    assert isinstance(command, Use)
    assert (command.task, command.images) == ("fish", (Path("a.png"), Path("b.png")))


BAD_FLAGS = {
    "--epochs 0": "--epochs: expected .* 1, got '0'",
    "--epochs many": "--epochs: expected .*'many'",
    "--replay_frac 1.5 --continual": "--replay_frac: .* 1, got '1.5'",
    "--replay_frac -0.1 --continual": "--replay_frac: .* 0, got '-0.1'",
    "--replay_frac nan --continual": "--replay_frac: .*got 'nan'",
    "--replay_frac 0.5": "--replay_frac: expected 1 without --continual.* got 0.5",
    "--tasks_per_round 0": "--tasks_per_round: .* 1, or all, got '0'",
    "--tasks_per_round some": "--tasks_per_round: expected a valid integer, or all, got 'some'",
    "--num_rounds 0": "--num_rounds: .* 1, or all, got '0'",
    "--num_rounds none": "--num_rounds: expected a valid integer, or all, got 'none'",
    "--num_rounds 3 --continual": "--num_rounds: expected at most 2, a round a task, or all, got 3",
    "--num_rounds 1000000000000": "--num_rounds: expected .* 100000, or all, got '1000000000000'",
    "--samples 0": "--samples: .* 1, or all, got '0'",
    "--samples none": "--samples: expected a valid integer, or all, got 'none'",
    "--seed -1": "--seed: .* 0, got '-1'",
    "--seed 9223372036854775808": "--seed: .* less than 9223372036854775808, got '9223372036854775808'",
    "--task_ids 0 2": r"--task_ids: expected ids 0\.\.1, each once, or all, got '0 2'",
    "--task_ids 1 1": r"--task_ids: expected ids 0\.\.1, each once, or all, got '1 1'",
    "--task_ids -1": "--task_ids: .*, or all, got '-1'",
    "--task_ids all 0": "--task_ids: .*, or all, got 'all 0'",
    "--warm_start --continual": "--warm_start: expected without --continual",
    "--threads 0": "--threads: .* 1, or all, got '0'",
    "--threads 99999999999": "--threads: .* 10000, or all, got '99999999999'",
    "--checkpoint_every_sec -1": "--checkpoint_every_sec: .* 0, got '-1'",
    "--resume --overwrite": "--resume and --overwrite exclude each other",
    "--no_such_flag": "--no_such_flag",
    "--epoch 3": "--epoch",
    "--evaluate x --predict x": "--predict: not allowed with argument --evaluate",
    "--predict x --task y": "--predict needs --task NAME_OR_ID and image files",
    "--task y": "--task needs --predict RUN_DIR",
    "--predict x a.png": "--predict needs --task",
}


@pytest.mark.parametrize(("flags", "message"), BAD_FLAGS.items(), ids=BAD_FLAGS)
def test_a_mistake_in_a_flag_is_named_with_what_is_expected(files, flags, message):
    given = files() if "--evaluate" not in flags and "--predict" not in flags else []
    with pytest.raises(UserError, match=message) as error:
        read_command([*given, *flags.split()])
    assert "\n" not in str(error.value)


STRAY = {  # by the words: those that are named
    "lr=0.1": "lr=0.1",
    "--seed 1 lr=0.1 --epochs 3": "lr=0.1",
    "before --seed 1 between --epochs 3 after": "before between after",
    "--lr=0.1 0.2": "0.2",
    "-lr 0.1": "-lr",
    "\u2014lr 0.1": "\u2014lr 0.1",
    "--resume false": "false",
    "--resume true --seed 1": "true",
    "--task 0 x.png": "x.png",
    "--evaluate RUN x.png": "x.png",
    "--seeed 1": "--seeed",
}


@pytest.mark.parametrize(("words", "named"), STRAY.items(), ids=STRAY)
def test_a_word_that_is_not_expected_is_named(words, named):
    with pytest.raises(UserError) as error:
        read_command(words.split())
    assert re.match(rf"unrecognized arguments: {re.escape(named)} \((--help lists the|flags begin)", str(error.value))
    assert "\n" not in str(error.value)


def test_images_may_stand_on_both_sides_of_a_flag():
    command = read_command("--predict x a.png --device cpu --task 0 b.png".split())
    assert command.images == (Path("a.png"), Path("b.png"))


def test_from_another_folder_the_projects_files_are_found_and_the_folders_own_come_first(tmp_path, monkeypatch):
    here, shipped = resolved(), "config/dataset/split_digits.yaml"
    monkeypatch.chdir(tmp_path)
    assert resolved() == here
    assert resolved("--data_config", shipped).benchmark.dataset == "digits"
    (tmp_path / "config/dataset").mkdir(parents=True)
    write_yaml(tmp_path / shipped, dataset="npz", root="x.npz", tasks=[[0, 1]])
    assert resolved("--data_config", shipped).benchmark.root == tmp_path / "config/dataset/x.npz"
    assert resolved("--hp_config", "config/hyperparam/conv.yaml").recipe.model == "conv"
    for flag in ("--data_config", "--hp_config"):
        with pytest.raises(UserError) as error:
            read_command([flag, "config/nowhere.yaml"])
        assert str(error.value).startswith("config/nowhere.yaml: no such file, seen from /")
        assert str(tmp_path) in str(error.value)
        assert str(ROOT) in str(error.value)


def test_a_runs_config_is_looked_for_from_the_current_folder_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("utils.config.ROOT", tmp_path)
    (tmp_path / "config.yaml").write_text(settings_to_yaml(resolved()))
    with pytest.raises(UserError, match=r"^config\.yaml: expected a YAML file that can be read"):
        read_command(["--config", "config.yaml"])


def test_a_run_is_evaluated_by_its_own_settings():
    with pytest.raises(UserError, match="--seed: expected no settings here"):
        read_command(["--evaluate", "x", "--seed", "1"])


# ---- mistakes in files

BAD_RECIPES = {
    "lr": [("small", "lr: expected .*number, got 'small'"), (-0.1, r"lr: .* 0, got -0\.1"), (0, "lr:"), (True, "lr:")],
    "l2_reg": [(-1.0, "l2_reg: .* 0, got -1.0"), (math.inf, "l2_reg: .*got inf")],
    "batch": [(0, "batch: .* 1, got 0"), (2.5, "batch: .*got 2.5"), ("16", "batch: .*got '16'")],
    "dropout": [(1.0, "dropout: .* 1, got 1.0"), (-0.1, "dropout: .* 0, got -0.1")],
    "model": [(5, "model: .*got 5")],
    "momentum": [(1.0, "momentum: .* 1, got 1.0"), (0.0, "nesterov: expected false where momentum is 0")],
    "schedule": [("linear", "schedule: .*'cosine' or 'constant', got 'linear'")],
    "precision": [("fp64", "precision: .*got 'fp64'")],
    "augment": [("always", "augment: .*got 'always'")],
    "nesterov": [("yes", "nesterov: .*got 'yes'")],
    "learning_rate": [(0.1, "learning_rate: expected one of the keys .*lr.*, got 0.1")],
}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [(key, value, message) for key, cases in BAD_RECIPES.items() for value, message in cases],
    ids=str,
)
def test_a_mistake_in_a_recipe_names_file_and_key(files, key, value, message):
    with pytest.raises(UserError, match=rf"recipe\.yaml: {message}") as error:
        read_command(files(recipe={key: value}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", RECIPE)
def test_a_recipe_without_one_of_the_five_is_refused(tmp_path, key):
    path = write_yaml(tmp_path / "short.yaml", **{k: v for k, v in RECIPE.items() if k != key})
    with pytest.raises(UserError, match=rf"short\.yaml: {key}: Field required, got"):
        read_file(Recipe, path)


BAD_BENCHMARKS = [
    ({"dataset": 5}, "dataset: .*got 5"),
    ({"tasks": []}, r"tasks: .*at least 1 item"),
    ({"tasks": [[1, 2], []]}, r"tasks\[1\]: expected two classes or more, got \[\]"),
    ({"tasks": [[1, 2], [3]]}, r"tasks\[1\]: expected two classes or more, got \[3\]"),
    ({"tasks": [[1, 2], [3, 4, 3]]}, r"tasks\[1\]: expected each once, got \[3, 4, 3\]"),
    ({"tasks": [[*range(500), 0]]}, r"tasks\[0\]: expected each once, got \[0, 1, .{1,80}\.\.\.$"),
    ({"tasks": [[0.5, 2]]}, r"tasks\[0\]\[0\]: expected a class.* needs quotes, got 0\.5"),
    ({"tasks": [[0, 1], [2, True]]}, r"tasks\[1\]\[1\]: expected a class.* needs quotes, got True"),
    ({"tasks": 5}, "tasks: .*got 5"),
    ({"task_names": ["one"]}, "task_names: expected 2 names, got 1"),
    ({"task_names": ["one", " one\t"]}, "task_names: expected names that differ"),
    ({"task_names": ["one", " "]}, r"task_names\[1\]: .*at least 1 character"),
    ({"root": 5}, "root: .*got 5"),
    ({"root": "a\0b"}, r"root: a path cannot have a NUL character"),
    ({"image_size": 3_000_000_000}, "image_size: .* 10000, got 3000000000"),
    ({"test_fraction": 1.5}, "test_fraction: .*got 1.5"),
    ({"labels": [1]}, r"labels: expected one of the keys .*tasks.*, got \[1\]"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_BENCHMARKS, ids=lambda value: str(value)[:60])
def test_a_mistake_in_a_benchmark_names_file_and_key(files, changes, message):
    with pytest.raises(UserError, match=rf"benchmark\.yaml: {message}") as error:
        read_command(files(benchmark=changes))
    assert "\n" not in str(error.value)


def test_a_key_that_is_no_text_is_named(tmp_path):
    path = write_yaml(tmp_path / "x.yaml", **RECIPE)
    path.write_text(path.read_text() + "1: 2\n")
    with pytest.raises(UserError, match=r"x\.yaml: \[1\]: Keys should be strings, got 1$"):
        read_file(Recipe, path)


def test_files_in_the_released_codes_manner_are_read(tmp_path):
    recipe = tmp_path / "wrn.yaml"
    recipe.write_text("model: 'wrn16_4'\nbatch: 16\nlr: 0.01\nl2_reg: 0.00001\ndropout: 0.2\n")
    assert read_file(Recipe, recipe).model == "wrn16_4"
    benchmark = tmp_path / "rotated.yaml"
    benchmark.write_text('dataset: "rotated_mnist"\ntasks:\n  - [0, 1, 2]\n  - [10, 11, 12]\n')
    assert read_benchmark(benchmark).tasks == ((0, 1, 2), (10, 11, 12))


def test_the_root_of_own_data_counts_from_the_benchmark_file(tmp_path):
    path = write_yaml(tmp_path / "own.yaml", dataset="npz", root="mine/x.npz", tasks=[[0, 1]])
    assert read_benchmark(path).root == (tmp_path / "mine/x.npz").resolve()
