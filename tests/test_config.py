import math
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.small_runs import ROOT, settings, write_yaml
from utils.config import (
    SETTING_DEFAULTS,
    ConfigError,
    Evaluate,
    Grow,
    Predict,
    Settings,
    build_parser,
    read_benchmark,
    read_command,
    read_recipe,
    read_settings,
    read_yaml,
    settings_to_yaml,
)

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
}
RECIPES = {
    "wrn": PAPER | {"model": "wrn16_4", "dropout": 0.2},
    "conv": PAPER | {"model": "conv", "dropout": 0.0},
    "notebook": PAPER | {"model": "conv", "dropout": 0.0, "batch": 32, "schedule": "constant", "augment": "none"},
}


@pytest.mark.parametrize("path", RECIPE_FILES, ids=lambda path: path.stem)
def test_every_recipe_that_comes_along_is_as_published(path):
    assert read_recipe(path).model_dump() == RECIPES[path.stem]


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


def test_every_flag_of_the_design_is_there_with_its_default():
    names = {word for action in build_parser()._actions for word in action.option_strings}
    assert names >= {f"--{name}" for name in SETTING_DEFAULTS}
    assert names >= set(
        "--data_dir --no_download --run_dir --resume --overwrite --device --threads --config --checkpoint_every_sec "
        "--dry_run --evaluate --predict --task".split()
    )
    command = read_command([])
    assert isinstance(command, Grow)
    chosen, options = command.settings, command.options
    assert (chosen.benchmark_name, chosen.recipe_name) == ("coarse_cifar100", "wrn")
    assert (chosen.epochs, chosen.continual, chosen.tasks_per_round, chosen.num_rounds) == (100, False, 5, 20)
    assert (chosen.replay_frac, chosen.samples, chosen.naive, chosen.warm_start, chosen.seed) == (
        1,
        None,
        False,
        False,
        100,
    )
    assert (options.data_dir, options.run_dir, options.device, options.threads) == (Path("data"), None, "auto", None)
    assert (options.no_download, options.resume, options.overwrite, options.dry_run) == (False, False, False, False)
    assert options.checkpoint_every_sec == 300


# ---- flags


@pytest.mark.parametrize(
    ("flag", "key", "value"),
    [
        (["--epochs", "3"], "epochs", 3),
        (["--continual"], "continual", True),
        (["--tasks_per_round", "1"], "tasks_per_round", 1),
        (["--tasks_per_round", "all"], "tasks_per_round", 2),
        (["--num_rounds", "7"], "num_rounds", 7),
        (["--continual", "--replay_frac", "0.1"], "replay_frac", 0.1),
        (["--samples", "9"], "samples", 9),
        (["--naive"], "naive", True),
        (["--warm_start"], "warm_start", True),
        (["--seed", "0"], "seed", 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_each_flag_reaches_the_settings(files, flag, key, value):
    without, chosen = resolved(*files()), resolved(*files(), *flag)
    assert getattr(chosen, key) == value
    if flag != ["--tasks_per_round", "all"]:
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
        (["--dry_run"], "dry_run", True),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_each_option_is_read_and_is_no_setting(files, flag, key, value):
    without, command = read_command(files()), read_command([*files(), *flag])
    assert getattr(command.options, key) == value
    assert getattr(without.options, key) != value
    assert command.settings == without.settings


@pytest.mark.parametrize(("num_tasks", "expected"), [(1, 1), (4, 4), (5, 5), (9, 5)])
def test_five_tasks_a_round_or_as_many_as_there_are(files, num_tasks, expected):
    flags = files(benchmark={"tasks": [[2 * i, 2 * i + 1] for i in range(num_tasks)]})
    assert resolved(*flags).tasks_per_round == expected
    assert resolved(*flags).num_rounds == num_tasks


def test_a_zoo_that_was_grown_is_used_by_other_commands():
    assert isinstance(read_command(["--evaluate", "x"]), Evaluate)
    command = read_command(["--predict", "x", "--task", "fish", "a.png", "b.png"])
    assert isinstance(command, Predict)
    assert (command.task, command.images) == ("fish", (Path("a.png"), Path("b.png")))


BAD_FLAGS = {
    "--epochs 0": "--epochs: expected .* 1, got 0",
    "--epochs many": "--epochs.*'many'",
    "--replay_frac 1.5 --continual": "--replay_frac: .* 1, got 1.5",
    "--replay_frac -0.1 --continual": "--replay_frac: .* 0, got -0.1",
    "--replay_frac nan --continual": "--replay_frac: .*got nan",
    "--replay_frac 0.5": "--replay_frac: expected 1 without --continual.* got 0.5",
    "--tasks_per_round 0": "--tasks_per_round: .* 1, got 0",
    "--tasks_per_round 3": "--tasks_per_round: expected at most 2.* got 3",
    "--tasks_per_round 3 --continual": "--tasks_per_round: expected at most 2.* got 3",
    "--tasks_per_round some": "--tasks_per_round: expected a number or all, got 'some'",
    "--num_rounds 0": "--num_rounds: .* 1, got 0",
    "--num_rounds 3 --continual": "--num_rounds: expected at most 2 .* got 3",
    "--samples 0": "--samples: .* 1, got 0",
    "--seed -1": "--seed: .* 0, got -1",
    "--warm_start --continual": "--warm_start: expected without --continual",
    "--threads 0": "--threads: .* 1, got 0",
    "--checkpoint_every_sec -1": "--checkpoint_every_sec: .* 0, got -1",
    "--resume --overwrite": "--resume, --overwrite: expected one of them",
    "--no_such_flag": "--no_such_flag",
    "--epoch 3": "--epoch",
    "stray.png": "--predict: expected --predict RUN_DIR --task NAME_OR_ID IMAGE",
    "--evaluate x --predict x": "--seed|--evaluate, --predict|expected",
    "--predict x --task y": "--predict: expected",
    "--predict x a.png": "--predict: expected",
}


@pytest.mark.parametrize(("flags", "message"), BAD_FLAGS.items(), ids=BAD_FLAGS)
def test_a_mistake_in_a_flag_is_named_with_what_is_expected(files, flags, message):
    given = files() if "--evaluate" not in flags and "--predict" not in flags else []
    with pytest.raises(ConfigError, match=message) as error:
        read_command([*given, *flags.split()])
    assert "\n" not in str(error.value)


def test_a_run_is_evaluated_by_its_own_settings():
    with pytest.raises(ConfigError, match="--seed: expected no settings here"):
        read_command(["--evaluate", "x", "--seed", "1"])


# ---- files

BAD_RECIPES = {
    "lr": [
        ("1e-5", r"lr: .*number, got '1e-5' .*write 1\.0e-5"),
        (-0.1, r"lr: .* 0, got -0\.1"),
        (0, "lr:"),
        (True, "lr:"),
    ],
    "l2_reg": [(-1.0, "l2_reg: .* 0, got -1.0"), ("1e-5", "l2_reg: .*write 1.0e-5"), (math.inf, "l2_reg: .*got inf")],
    "batch": [(0, "batch: .* 1, got 0"), (2.5, "batch: .*got 2.5"), ("16", "batch: .*got '16'")],
    "dropout": [(1.0, "dropout: .* 1, got 1.0"), (-0.1, "dropout: .* 0, got -0.1")],
    "model": [
        ("resnet18", "model: expected conv or wrn<depth>_<width>.* got 'resnet18'"),
        ("wrn12_4", "model"),
        (5, "model"),
    ],
    "momentum": [(1.0, "momentum: .* 1, got 1.0"), (0.0, "nesterov: expected false where momentum is 0")],
    "schedule": [("linear", "schedule: .*'cosine' or 'constant', got 'linear'")],
    "precision": [("fp64", "precision: .*got 'fp64'")],
    "augment": [("always", "augment: .*got 'always'")],
    "nesterov": [("yes", "nesterov: .*got 'yes'")],
    "learning_rate": [(0.1, "learning_rate: expected one of the keys .*lr.*, got an unknown one")],
}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [(key, value, message) for key, cases in BAD_RECIPES.items() for value, message in cases],
    ids=str,
)
def test_a_mistake_in_a_recipe_names_file_and_key(files, key, value, message):
    with pytest.raises(ConfigError, match=rf"recipe\.yaml: {message}") as error:
        read_command(files(recipe={key: value}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", RECIPE)
def test_a_recipe_without_one_of_the_five_is_refused(tmp_path, key):
    path = write_yaml(tmp_path / "short.yaml", **{k: v for k, v in RECIPE.items() if k != key})
    with pytest.raises(ConfigError, match=rf"short\.yaml: {key}: expected this key, got none"):
        read_recipe(path)


BAD_BENCHMARKS = [
    ({"dataset": "imagenet"}, "dataset: .*got 'imagenet'"),
    ({"tasks": []}, r"tasks: expected one item or more, got"),
    ({"tasks": [[1, 2], []]}, r"tasks\[1\]: expected two classes or more, got \[\]"),
    ({"tasks": [[1, 2], [3]]}, r"tasks\[1\]: expected two classes or more, got \[3\]"),
    ({"tasks": [[1, 2], [3, 4, 3]]}, r"tasks\[1\]: expected each class once, got 3 twice"),
    ({"tasks": [[1, 2], [3, 100]]}, r"tasks\[1\]: expected class ids 0\.\.99 of cifar100, got 100"),
    ({"tasks": [[-1, 2]]}, r"tasks\[0\]: expected class ids 0\.\.99 of cifar100, got -1"),
    ({"tasks": [["fish", 2]]}, r"tasks\[0\]: expected class ids 0\.\.99 of cifar100, got 'fish'"),
    ({"tasks": [[0.5, 2]]}, r"tasks\[0\]\[0\]: expected a class id or name, got 0\.5"),
    ({"tasks": [[0, 1], [2, True]]}, r"tasks\[1\]\[1\]: expected a class id or name, got True"),
    ({"tasks": 5}, "tasks: .*got 5"),
    ({"task_names": ["one"]}, "task_names: expected 2 names, got 1"),
    ({"task_names": ["one", "one"]}, "task_names: expected names that differ"),
    ({"root": "x"}, "root: expected none for cifar100, got x"),
    ({"dataset": "npz"}, "root: expected a path, got None"),
    ({"dataset": "npz", "root": 5}, "root: expected a path, got 5"),
    ({"dataset": "npz", "root": "a\0b"}, r"root: expected a path, got 'a\\x00b'"),
    ({"dataset": "npz", "root": "x", "image_size": 32}, "image_size, test_fraction: expected for image_folder only"),
    ({"dataset": "image_folder", "root": "x", "test_fraction": 1.5}, "test_fraction: .*got 1.5"),
    ({"dataset": "rotated_mnist", "tasks": [[8, 11]]}, r"tasks\[0\]: expected classes 10x\.\.10x\+9 of one variant"),
    ({"dataset": "rotated_mnist", "tasks": [[360, 361]]}, r"tasks\[0\]: expected class ids 0\.\.359"),
    ({"labels": [1]}, "labels: expected one of the keys .*tasks.*, got an unknown one"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_BENCHMARKS, ids=lambda value: str(value)[:60])
def test_a_mistake_in_a_benchmark_names_file_and_key(files, changes, message):
    with pytest.raises(ConfigError, match=rf"benchmark\.yaml: {message}") as error:
        read_command(files(benchmark=changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks: [[1, 2", r"x\.yaml: line \d: expected YAML, got a mistake"),
        ("", r"x\.yaml: expected keys and values, got NoneType"),
        ("- 1", r"x\.yaml: expected keys and values, got list"),
        ("lr: 2026-99-99", r"x\.yaml: .*expected"),
        ("lr: 0x_", r"x\.yaml: .*expected"),
        ("1: 2", r"x\.yaml: "),
        ("a: 1\nb: 2\na: 3", r"x\.yaml: line 3: expected each key once, got 'a' twice$"),
        ("a:\n  - {b: 1, 'b': 2}", r"x\.yaml: line 2: expected each key once, got 'b' twice$"),
        ("a: !!python/object/apply:os.system [exit]", r"x\.yaml: line 1: expected YAML"),
        ("lr: &a [*a]", r"x\.yaml: "),
    ],
)
def test_a_file_that_is_not_ours_to_read_is_refused_in_a_line(tmp_path, text, message):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    for read in (read_recipe, read_benchmark, read_settings):
        with pytest.raises(ConfigError, match=message) as error:
            read(path)
        assert "\n" not in str(error.value)


def test_a_key_that_is_no_text_is_named(tmp_path):
    path = write_yaml(tmp_path / "x.yaml", **RECIPE)
    path.write_text(path.read_text() + "1: 2\n")
    with pytest.raises(ConfigError, match=r"x\.yaml: expected words as keys, got 1$"):
        read_recipe(path)


def test_a_key_may_stand_again_where_another_mapping_is_merged_in(tmp_path):
    text = "k: {j: &a {<<: {model: wrn, batch: 8}, batch: 16}}\nm: {<<: *a, lr: 0.01}\n"
    (tmp_path / "x.yaml").write_text(text)
    assert read_yaml(tmp_path / "x.yaml")["m"] == {"model": "wrn", "batch": 16, "lr": 0.01}


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00lr"])
def test_a_file_that_is_missing_or_no_text_is_refused_in_a_line(tmp_path, content):
    path = tmp_path / "x.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"x\.yaml: expected a YAML file that can be read"):
        read_recipe(path)


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="expected a YAML file that can be read"):
        read_recipe(tmp_path)


def test_files_in_the_released_codes_manner_are_read(tmp_path):
    recipe = tmp_path / "wrn.yaml"
    recipe.write_text("model: 'wrn16_4'\nbatch: 16\nlr: 0.01\nl2_reg: 0.00001\ndropout: 0.2\n")
    assert read_recipe(recipe).model == "wrn16_4"
    benchmark = tmp_path / "rotated.yaml"
    benchmark.write_text('dataset: "rotated_mnist"\ntasks:\n  - [0, 1, 2]\n  - [10, 11, 12]\n')
    assert read_benchmark(benchmark).tasks == ((0, 1, 2), (10, 11, 12))


def test_the_root_of_own_data_counts_from_the_benchmark_file(tmp_path):
    path = write_yaml(tmp_path / "own.yaml", dataset="npz", root="mine/x.npz", tasks=[[0, 1]])
    assert read_benchmark(path).root == (tmp_path / "mine/x.npz").resolve()


# ---- config.yaml


SOME_SETTINGS = st.builds(
    lambda continual, replay, **rest: settings(
        continual=continual, replay_frac=replay if continual else 1.0, warm_start=not continual, **rest
    ),
    continual=st.booleans(),
    replay=st.floats(0, 1),
    epochs=st.integers(1, 10**6),
    seed=st.integers(0, 2**63),
    samples=st.none() | st.integers(1, 10**6),
    naive=st.booleans(),
    tasks_per_round=st.integers(1, 4),
    num_rounds=st.integers(1, 4),
    benchmark_name=st.text(max_size=20),
    recipe=st.fixed_dictionaries({"lr": st.floats(1e-300, 1e300), "l2_reg": st.floats(0, 1e-5)}),
)


@hypothesis_settings(deadline=None, max_examples=80)
@given(SOME_SETTINGS)
def test_config_yaml_gives_the_same_settings_back(tmp_path_factory, chosen):
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_text(settings_to_yaml(chosen), encoding="utf-8")
    assert read_settings(path) == chosen


def test_settings_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        settings().epochs = 5


def test_only_flags_about_where_and_how_stand_beside_a_config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(settings_to_yaml(settings()))
    command = read_command(["--config", str(path), "--run_dir", "x", "--threads", "1", "--resume"])
    assert command.settings == settings()
    with pytest.raises(ConfigError, match="--seed: expected no settings beside --config"):
        read_command(["--config", str(path), "--seed", "1"])


# ---- the run folder's name


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "tiny-small-continual-b3-e1-s0"),
        ({"num_rounds": 2}, "tiny-small-continual-b3-e1-k2-s0"),
        ({"replay_frac": 0.1}, "tiny-small-continual-b3-e1-f0.1-s0"),
        ({"replay_frac": 0.0}, "tiny-small-continual-b3-e1-f0-s0"),
        ({"samples": 100, "naive": True}, "tiny-small-continual-b3-e1-n100-naive-s0"),
        ({"continual": False, "warm_start": True, "seed": 7}, "tiny-small-multitask-b3-e1-warm-s7"),
    ],
    ids=str,
)
def test_the_name_of_a_run_tells_its_settings_but_for_the_defaults(changes, name):
    assert settings(**changes).run_name == name


@hypothesis_settings(deadline=None, max_examples=60)
@given(SOME_SETTINGS, SOME_SETTINGS)
def test_settings_that_differ_in_a_flag_have_other_names(one, other):
    fixed = {"recipe": one.recipe, "benchmark_name": "x", "replay_frac": 1.0}
    one, other = one.model_copy(update=fixed), other.model_copy(update=fixed)
    assert (one.run_name == other.run_name) == (one == other)
    assert re.fullmatch(r"[\w.-]+", one.run_name)


def test_the_names_of_files_are_not_compared():
    assert settings(benchmark_name="a").computed == settings(benchmark_name="b").computed
    assert set(Settings.model_fields) - set(settings().computed) == {"benchmark_name", "recipe_name"}
    assert yaml.safe_load(settings_to_yaml(settings()))["benchmark_name"] == "tiny"
