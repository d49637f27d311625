"""Every setting as a flag: what it changes, the run's name, and ``--config`` with settings beside it."""

import pytest

from tests.small_runs import FOUR_TASKS, rounds_of, run, settings, tiny_flags
from tests.tiny_zoo import make_tasks, records
from utils.command_line import read_command
from utils.config import OR_ALL, Recipe, settings_to_yaml
from utils.errors import UserError
from utils.suite.file import FIELDS

OTHER = {  # another value for each key of the recipe, as text, and how it stands in a run's name
    "model": ("wrn10_1", "wrn10_1", "modelwrn10_1"),
    "batch": ("4", 4, "batch4"),
    "lr": ("3e-2", 0.03, "lr0.03"),
    "l2_reg": ("1", 1.0, "l2_reg1"),
    "dropout": ("0.5", 0.5, "dropout0.5"),
    "momentum": ("0.5", 0.5, "momentum0.5"),
    "nesterov": ("false", False, "no_nesterov"),
    "schedule": ("constant", "constant", "scheduleconstant"),
    "augment": ("none", "none", "augmentnone"),
    "precision": ("bf16", "bf16", "precisionbf16"),
    "lr_decay": ("0.5", 0.5, "lr_decay0.5"),
}


@pytest.fixture
def flags(tmp_path):
    return tiny_flags(tmp_path)


def config(tmp_path, **changes):
    path = tmp_path / "config.yaml"
    path.write_text(settings_to_yaml(settings(**changes)))
    return str(path)


def test_each_key_of_the_recipe_has_a_flag():
    assert OTHER.keys() == Recipe.model_fields.keys()


@pytest.mark.parametrize(("key", "given", "value", "in_name"), [(key, *rest) for key, rest in OTHER.items()])
def test_a_flag_stands_in_place_of_the_recipes_key_and_in_the_runs_name(flags, key, given, value, in_name):
    flags = [*flags, "--continual", "--method", "sgd"]  # for which every key is meant
    plain, changed = (read_command([*flags, *more]).settings for more in ([], [f"--{key}", given]))
    assert changed.recipe == plain.recipe.model_copy(update={key: value})
    assert changed.run_name == f"{plain.run_name.removesuffix('-s100')}-{in_name}-s100"
    assert changed.changed == (key,)
    same = read_command([*flags, f"--{key}", str(getattr(plain.recipe, key)).lower()]).settings
    assert same == plain


@pytest.mark.parametrize("key", sorted(OTHER.keys() - {"model", "augment", "lr_decay"}))
def test_each_flag_of_the_recipe_changes_the_training(key):
    def loss(recipe):
        # Two epochs of two minibatches; only WRN has dropout.
        chosen = settings(((0, 1),), epochs=2, recipe={"model": "wrn10_1"} | recipe)
        return records(make_tasks(((0, 1),)), chosen)[0].epoch_loss

    assert loss({}) == loss({})
    assert loss({key: OTHER[key][1]}) != loss({})


MISTAKES = [
    ("--lr 0", "--lr: expected greater than 0, got 0"),
    ("--lr fast", "--lr: expected a valid number, got 'fast'"),
    ("--lr .inf", "--lr: expected a finite number, got inf"),
    ("--batch 0", "--batch: expected greater than or equal to 1, got 0"),
    ("--batch 1.5", "--batch: expected a valid integer, got 1.5"),
    ("--batch 08", "--batch: expected a valid integer, got '08'"),
    ("--l2_reg -1", "--l2_reg: expected greater than or equal to 0, got -1"),
    ("--l2_reg none", "--l2_reg: expected a valid number, got 'none'"),
    ("--l2_reg true", "--l2_reg: expected a valid number, got True"),
    ("--dropout 1", "--dropout: expected less than 1, got 1"),
    ("--dropout -0.1", "--dropout: expected greater than or equal to 0, got -0.1"),
    ("--dropout ''", "--dropout: expected a valid number, got None"),
    ("--momentum 1", "--momentum: expected less than 1, got 1"),
    ("--momentum 0", "--nesterov: expected false where momentum is 0, got true"),
    ("--momentum high", "--momentum: expected a valid number, got 'high'"),
    ("--nesterov no", "--nesterov: expected a valid boolean, got 'no'"),
    ("--nesterov 1", "--nesterov: expected a valid boolean, got 1"),
    ("--schedule linear", "--schedule: expected 'cosine' or 'constant', got 'linear'"),
    ("--schedule Cosine", "--schedule: expected 'cosine' or 'constant', got 'Cosine'"),
    ("--augment yes", "--augment: expected 'auto' or 'none', got 'yes'"),
    ("--augment true", "--augment: expected 'auto' or 'none', got True"),
    ("--precision fp8", "--precision: expected 'auto', 'fp32', 'tf32', 'bf16' or 'fp16', got 'fp8'"),
    ("--precision 16", "--precision: expected 'auto', 'fp32', 'tf32', 'bf16' or 'fp16', got 16"),
    ("--model 7", "--model: expected a valid string, got 7"),
    ("--validation 1", "--validation: expected less than 1, got '1'"),
    ("--validation -0.1", "--validation: expected greater than or equal to 0, got '-0.1'"),
    ("--validation 10%", "--validation: expected a valid number, unable to parse string as a number, got '10%'"),
    ("--naive maybe", "--naive: expected a valid boolean, unable to interpret input, got 'maybe'"),
    ("--lr", "argument --lr: expected one argument (--help lists the flags)"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_a_mistake_is_one_line_that_names_the_flag(flags, words, message):
    with pytest.raises(UserError) as error:
        read_command([*flags, *(word.strip("'") for word in words.split())])
    assert str(error.value) == message


@pytest.mark.parametrize("model", ["resnet", "wrn16", "wrn11_1", "conv2"])
def test_a_model_that_is_not_there_is_one_line_and_leaves_no_folder(flags, tmp_path, model, capsys):
    for more in ([], ["--dry_run"]):
        assert run(*flags, "--model", model, "--run_dir", tmp_path / "run", *more) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith("modelzoo.py: model: expected")
        assert printed.out == ""
    assert not (tmp_path / "run").exists()


def test_resume_names_a_recipes_key_that_differs(flags, tmp_path, capsys):
    assert run(*flags, "--num_rounds", 1, "--run_dir", tmp_path / "run") == 0
    capsys.readouterr()
    assert run(*flags, "--num_rounds", 1, "--run_dir", tmp_path / "run", "--resume", "--lr", 0.5) == 2
    expected = "modelzoo.py: --resume: not the settings of the run: recipe.lr 0.5 (the run has 0.01)\n"
    assert capsys.readouterr().err == expected


# ---- --config


def test_flags_stand_in_place_of_what_a_config_says(tmp_path):
    path = config(tmp_path, naive=True)
    assert read_command(["--config", path, "--run_dir", "x", "--resume"]).settings == settings(naive=True)
    changed = read_command(["--config", path, "--seed", "5", "--lr", "0.5", "--naive", "false"]).settings
    assert changed == settings(seed=5, recipe={"lr": 0.5}, changed=("lr",))
    assert changed.run_name == "tiny-small-continual-b3-e1-lr0.5-s5"


def test_another_benchmark_or_recipe_stands_in_place_of_the_configs(flags, tmp_path):
    path = config(tmp_path, recipe={"lr": 0.5}, changed=("lr",), epochs=7)
    _, benchmark, _, recipe, *_ = flags
    assert read_command(["--config", path, "--hp_config", recipe]).settings == settings(epochs=7)
    other = read_command(["--config", path, "--data_config", benchmark]).settings
    assert other.benchmark.root == tmp_path / "tiny.npz"
    assert (other.recipe.lr, other.epochs) == (0.5, 7)


@pytest.mark.parametrize(
    ("given", "then", "rounds_and_b"),
    [
        ([], [], (3, 5)),
        (["--tasks_per_round", "all"], [], (3, 3)),
        (["--tasks_per_round", "2"], [], (3, 2)),
        (["--num_rounds", "2"], [], (2, 5)),  # the number of tasks, but given as a number
        (["--num_rounds", "all"], [], (3, 5)),
        (["--num_rounds", "1", "--tasks_per_round", "all"], [], (1, 3)),
        (["--num_rounds", "1"], ["--num_rounds", "all"], (3, 5)),
        (["--num_rounds", "2"], ["--num_rounds", "all", "--task_ids", "0"], (1, 5)),
        (["--num_rounds", "2"], ["--task_ids", "0"], (2, 5)),
        ([], ["--num_rounds", "2"], (2, 5)),
        ([], ["--task_ids", "0"], (1, 5)),
        (["--task_ids", "1"], ["--task_ids", "all"], (3, 5)),
        (["--tasks_per_round", "2"], ["--tasks_per_round", "all"], (3, 3)),
        (["--tasks_per_round", "all"], ["--task_ids", "2", "0"], (2, 2)),
    ],
    ids=str,
)
def test_all_stays_all_with_another_benchmark(tmp_path, given, then, rounds_and_b):
    flags = tiny_flags(tmp_path, FOUR_TASKS[:2])
    path = tmp_path / "config.yaml"
    path.write_text(settings_to_yaml(read_command([*flags, *given]).settings))
    for _ in range(2):  # what came out is as good as what went in
        more = tiny_flags(tmp_path, FOUR_TASKS[:3])[:2]
        chosen = read_command(["--config", str(path), *more, *then]).settings
        assert (chosen.total_rounds, chosen.max_per_round) == rounds_and_b
        path.write_text(settings_to_yaml(chosen))


def test_a_multi_head_run_again_with_more_tasks_has_them_all(tmp_path):
    for name in ("two", "three"):
        (tmp_path / name).mkdir()
    few, more = (tiny_flags(tmp_path / name, FOUR_TASKS[:n]) for name, n in (("two", 2), ("three", 3)))
    assert run(*few, "--num_rounds", 1, "--tasks_per_round", "all", "--run_dir", tmp_path / "few") == 0
    again = ["--config", tmp_path / "few/config.yaml", *more[:2], "--run_dir", tmp_path / "more"]
    assert run(*again) == 0
    assert [record["tasks"] for record in rounds_of(tmp_path / "more")] == [[0, 1, 2]]
    assert "tasks_per_round: all\n" in (tmp_path / "more/config.yaml").read_text()


def test_all_and_the_number_that_it_stands_for_are_one_computation():
    every, four, three = (settings(tasks_per_round=n, num_rounds=n) for n in ("all", 4, 3))
    assert every.run_name == four.run_name == "tiny-small-continual-b4-e1-s0"
    assert every.differences(four) == four.differences(every) == {}
    assert every.differences(three) == {"tasks_per_round": (4, 3), "num_rounds": (4, 3)}
    assert records(make_tasks(), every) == records(make_tasks(), four)


UNSET = {  # by flag: a value, and what the setting is with `all`
    "samples": ("9", None),
    "num_rounds": ("2", "all"),
    "tasks_per_round": ("2", "all"),
    "threads": ("2", None),
}


@pytest.mark.parametrize(("key", "given", "unset"), [(key, *rest) for key, rest in UNSET.items()])
def test_what_is_optional_can_be_unset(flags, tmp_path, key, given, unset):
    assert UNSET.keys() == OR_ALL.keys()
    command = read_command([*flags, f"--{key}", given, f"--{key}", "all"])
    assert getattr(command.options if key == "threads" else command.settings, key) == unset
    if key != "threads":
        path = config(tmp_path, continual=False, **{key: int(given)})
        assert getattr(read_command(["--config", path, f"--{key}", "all"]).settings, key) == unset
        assert getattr(read_command(["--config", path]).settings, key) == int(given)


@pytest.mark.parametrize("key", [key for key, field in FIELDS.items() if field.annotation is bool])
def test_what_is_on_or_off_can_be_switched_both_ways_beside_a_config(tmp_path, key):
    path = config(tmp_path, continual=False)
    for value in (True, False, True):
        chosen = read_command(["--config", path, f"--{key}", str(value).lower()]).settings
        assert getattr(chosen.recipe if key in Recipe.model_fields else chosen, key) is value
        (tmp_path / "config.yaml").write_text(settings_to_yaml(chosen))


@pytest.mark.parametrize(("key", "given", "value"), [(key, *rest[:2]) for key, rest in OTHER.items()])
def test_a_recipes_key_can_be_set_back_beside_a_config(tmp_path, key, given, value):
    plain = settings(method="sgd", tasks_per_round=5)
    path = config(tmp_path, method="sgd", tasks_per_round=5, recipe={key: value}, changed=(key,))
    back = read_command(["--config", path, f"--{key}", str(getattr(plain.recipe, key)).lower()]).settings
    assert back.differences(plain) == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--continual false --replay_frac 0.5", "--replay_frac: expected 1 without --continual"),
        ("--task_ids 4", r"--task_ids: expected ids 0\.\.3, each once, or all, got '4'"),
        ("--num_rounds 9", "--num_rounds: expected at most 4, a round a task, or all, got 9"),
    ],
)
def test_a_mistake_beside_a_config_is_one_line(tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        read_command(["--config", config(tmp_path), *words.split()])
