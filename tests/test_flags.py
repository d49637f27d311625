"""Every setting as a flag: what it changes, the run's name, and ``--config`` with settings beside it."""

import pytest

from tests.small_runs import run, settings, tiny_flags
from tests.tiny_zoo import make_tasks, records
from utils.command_line import read_command
from utils.config import Recipe, settings_to_yaml
from utils.errors import UserError

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
    assert run(*flags, "--model", model, "--run_dir", tmp_path / "run") == 2
    assert capsys.readouterr().err.startswith("modelzoo.py: model: expected")
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


@pytest.mark.parametrize(("num_rounds", "after"), [(4, 2), (3, 3)])
def test_a_round_a_task_stays_a_round_a_task(tmp_path, num_rounds, after):
    path = config(tmp_path, num_rounds=num_rounds, continual=False)
    fewer = read_command(["--config", path, "--task_ids", "3", "1", "--tasks_per_round", "all"]).settings
    assert fewer.benchmark.tasks == ((6, 7), (2, 3))
    assert (fewer.num_rounds, fewer.tasks_per_round) == (after, 2)
    assert fewer.run_name.startswith("tiny-t3_1-small-multitask-b2")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--continual false --replay_frac 0.5", "--replay_frac: expected 1 without --continual"),
        ("--task_ids 4", r"--task_ids: expected ids 0\.\.3, each once, got \[4\]"),
        ("--num_rounds 9", "--num_rounds: expected at most 4, a round a task, got 9"),
    ],
)
def test_a_mistake_beside_a_config_is_one_line(tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        read_command(["--config", config(tmp_path), *words.split()])
