"""YAML as it is read and written: any file, config.yaml; and the name that settings give a run."""

import re
from functools import partial
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.small_runs import settings
from utils.config import FORMAT, Recipe, read_benchmark, read_file, read_settings, settings_to_yaml
from utils.errors import UserError
from utils.yaml_files import read_yaml

# ---- any file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks: [[1, 2", r"x\.yaml: expected a YAML file that can be read .*line 1, column 14"),
        ("", r"x\.yaml: expected keys and values, got None"),
        ("- 1", r"x\.yaml: expected keys and values, got \[1\]"),
        ('lr: "\\ud83d"', r"x\.yaml: expected a YAML file that can be read"),
        ("lr: \x00", r"x\.yaml: expected a YAML file .*special characters are not allowed"),
        ("1: 2", r"x\.yaml: "),
        ("a: 1\nb: 2\na: 3", r"x\.yaml: .*expected each key once, got 'a' twice .*line 3"),
        (
            "a:\n  - {b: 1, 'b': 2}",
            r"x\.yaml: .*expected each key once, got 'b' twice .*line 2",
        ),
        ("a: !!python/object/apply:os.system [exit]", r"x\.yaml: .*could not determine a constructor.*line 1"),
        ("lr: &a [*a]", r"x\.yaml: "),
    ],
)
def test_a_file_that_is_not_ours_to_read_is_refused_in_a_line(tmp_path, text, message):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    for read in (partial(read_file, Recipe), read_benchmark, read_settings):
        with pytest.raises(UserError, match=message) as error:
            read(path)
        assert "\n" not in str(error.value)


def test_a_key_may_stand_again_where_another_mapping_is_merged_in(tmp_path):
    text = "k: {j: &a {<<: {model: wrn, batch: 8}, batch: 16}}\nm: {<<: *a, lr: 0.01}\n"
    (tmp_path / "x.yaml").write_text(text)
    assert read_yaml(tmp_path / "x.yaml")["m"] == {"model": "wrn", "batch": 16, "lr": 0.01}


@pytest.mark.parametrize(
    "make",
    [Path.mkdir, lambda path: path.write_bytes(b"\xff\xfe\x00lr")],
    ids=["dir", "bytes"],
)
def test_a_file_that_is_no_text_or_a_folder_is_refused_in_a_line(tmp_path, make):
    make(tmp_path / "x.yaml")
    with pytest.raises(UserError, match=r"x\.yaml: expected a YAML file that can be read"):
        read_file(Recipe, tmp_path / "x.yaml")


YAML_1_2 = {
    "1e-5": 1e-5,
    "-1E+3": -1000.0,
    ".5": 0.5,
    "5.": 5.0,
    "0.01": 0.01,
    "1e5": 1e5,
    "12": 12,
    "-12": -12,
    "0": 0,
    "-0": "-0",
    "+1": "+1",
    "0x1F": "0x1F",
    "0o17": "0o17",
    "true": True,
    "False": False,
    "~": None,
    "null": None,
    "no": "no",
    "on": "on",
    "Yes": "Yes",
    "1:30": "1:30",
    "010": "010",
    "01": "01",
    "007": "007",
    "2024-01-01": "2024-01-01",
    "1_000": "1_000",
    "0b11": "0b11",
    "=": "=",
    r'"\ud83d\ude00 \u00e9"': "😀 é",
    "'1'": "1",
}


@pytest.mark.parametrize(("written", "value"), YAML_1_2.items(), ids=YAML_1_2)
def test_values_are_those_of_yaml_1_2(tmp_path, written, value):
    (tmp_path / "x.yaml").write_text(f"a: {written}\nb: [{written}]\n", encoding="utf-8")
    values = read_yaml(tmp_path / "x.yaml")
    assert values == {"a": value, "b": [value]}
    assert type(values["a"]) is type(value)


# ---- config.yaml


@hypothesis_settings(deadline=None, max_examples=300)
@given(st.text(max_size=12) | st.sampled_from([word for word in YAML_1_2 if not word.startswith(("'", '"'))]))
def test_a_name_comes_back_from_config_yaml_as_it_was(tmp_path_factory, name):
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    chosen = settings(num_rounds=1, benchmark_name=name, benchmark={"dataset": "x", "tasks": [["1e5", name + "x"]]})
    path.write_text(settings_to_yaml(chosen), encoding="utf-8")
    assert read_settings(path) == chosen


@pytest.mark.parametrize(("form", "got"), [("", "'none'"), ("format: 1\n", "1"), ("format: 99\n", "99")])
def test_a_run_of_another_version_is_refused_by_its_format(tmp_path, form, got):
    path = tmp_path / "config.yaml"
    path.write_text(form + settings_to_yaml(settings()).replace(f"format: {FORMAT}\n", ""), encoding="utf-8")
    with pytest.raises(UserError, match=rf"config\.yaml: format: expected {FORMAT}, got {got}: another version wrote"):
        read_settings(path)


SOME_SETTINGS = st.builds(
    lambda continual, replay, **rest: settings(
        continual=continual, replay_frac=replay if continual else 1.0, warm_start=not continual, **rest
    ),
    continual=st.booleans(),
    replay=st.floats(0, 1),
    epochs=st.integers(1, 10**6),
    seed=st.integers(0, 2**63 - 1),
    samples=st.none() | st.integers(1, 10**6),
    naive=st.booleans(),
    tasks_per_round=st.integers(1, 4),
    num_rounds=st.integers(1, 4),
    benchmark_name=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
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
    assert settings(benchmark_name="a").differences(settings(benchmark_name="b")) == {}
    assert settings(epochs=3, recipe={"lr": 0.5}).differences(settings()) == {
        "epochs": (3, 1),
        "recipe.lr": (0.5, 0.01),
    }
    assert yaml.safe_load(settings_to_yaml(settings()))["benchmark_name"] == "tiny"
