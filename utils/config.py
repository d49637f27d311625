"""Settings, typed and checked: what a benchmark file, a recipe file and a run folder's ``config.yaml`` may say.

Nothing here imports torch, so that a whole suite of runs is checked in an instant.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar
from unicodedata import normalize

from pydantic import AfterValidator, BaseModel, Field, StrictInt, StrictStr, ValidationError, model_validator
from pydantic.functional_validators import BeforeValidator
from pydantic.types import StringConstraints

from utils.errors import UserError, short
from utils.program import ROOT
from utils.yaml_files import read_yaml, to_yaml

FORMAT = 6  # of run folders; it stands in their config.yaml
OR_ALL = {"tasks_per_round": "all", "num_rounds": "all", "samples": None, "threads": None}  # what `all` is as a value
Count = Annotated[int, Field(ge=1, le=100_000)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what fits into a table's column of whole numbers
Name = Annotated[StrictStr, StringConstraints(strip_whitespace=True, min_length=1)]


class Frozen(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Values that cannot be changed. Unknown keys and infinite numbers are refused."""


Model = TypeVar("Model", bound=BaseModel)


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values, if no two are equal. Raises ValueError."""
    if len(set(values)) < len(values):
        raise ValueError("expected each once")
    return values


def _two_or_more(classes: tuple[int | str, ...]) -> tuple[int | str, ...]:
    if len(classes) < 2:
        raise ValueError("expected two classes or more")
    return distinct(classes)


def _id_or_name(item: object) -> object:
    if not isinstance(item, str) and type(item) is not int:
        raise ValueError("expected a class's id or name; a name such as 1e5, true or null needs quotes")
    return item


Class = Annotated[StrictInt | StrictStr, BeforeValidator(_id_or_name)]
Classes = Annotated[tuple[Class, ...], AfterValidator(_two_or_more)]


@dataclass(frozen=True)
class TaskKey:
    """What a task is, wherever it stands in a benchmark: tables and pairings go by it, never by its place."""

    data_set: str
    classes: tuple[int | str, ...]
    name: str


class Benchmark(Frozen):
    """What a benchmark file says: a data set and the classes of each task, in the order of the tasks.

    ``root``, ``image_size`` and ``test_fraction`` are for the user's own data; the loaders in ``datasets`` check them,
    the name of the data set, and its classes.
    """

    dataset: StrictStr
    tasks: tuple[Classes, ...] = Field(min_length=1)
    task_names: tuple[Name, ...] = ()
    flip: bool = Field(default=True, strict=True)
    root: Path | None = None
    image_size: int | None = Field(default=None, strict=True, ge=1, le=10_000)
    test_fraction: float | None = Field(default=None, strict=True, gt=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> "Benchmark":
        if self.task_names and len(self.task_names) != len(self.tasks):
            raise ValueError(f"task_names: expected {len(self.tasks)} names, got {len(self.task_names)}")
        if len({normalize("NFC", name) for name in self.task_names}) < len(self.task_names):
            raise ValueError("task_names: expected names that differ, also in Unicode's composed form")
        if "\0" in str(self.root):
            raise ValueError("root: a path cannot have a NUL character")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Each task's name: the one in the file, or ``task 0``, ``task 1``, ..."""
        return self.task_names or tuple(f"task {task_id}" for task_id in range(len(self.tasks)))

    @property
    def keys(self) -> tuple[TaskKey, ...]:
        """Each task's data set, classes and name."""
        return tuple(TaskKey(self.dataset, *task) for task in zip(self.tasks, self.names, strict=True))

    def select(self, task_ids: Sequence[str]) -> "Benchmark":
        """The benchmark with only these tasks, in this order, under their names here. Raises UserError."""
        known, got = [str(task_id) for task_id in range(len(self.tasks))], short(" ".join(task_ids))
        if len(set(task_ids)) < len(task_ids) or not set(task_ids) <= set(known):
            raise UserError(f"--task_ids: expected ids 0..{known[-1]}, each once, or all, got {got}")
        tasks, names = ([values[int(task_id)] for task_id in task_ids] for values in (self.tasks, self.names))
        return self.model_copy(update={"tasks": tuple(tasks), "task_names": tuple(names)})


class Recipe(Frozen, strict=True):
    """What a recipe file says: the network, whose name ``net`` checks, and how a learner is trained."""

    model: str = Field(description="the network, such as conv or wrn16_4: a name in the table of net/build_net.py")
    batch: int = Field(ge=1, description="examples a gradient step")
    lr: float = Field(gt=0, description="learning rate, at its highest")
    l2_reg: float = Field(ge=0, description="weight decay, on all parameters")
    dropout: float = Field(ge=0, lt=1, description="probability of dropping a unit")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of gradient descent")
    nesterov: bool = Field(True, description="whether momentum is Nesterov's")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="cosine (to 0) or constant learning rate")
    augment: Literal["auto", "none"] = Field("auto", description="auto (crops, mirror images) or none")
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = Field(
        "auto", description="auto (fp16 on a CUDA GPU, else fp32), fp32, tf32 (on a CUDA GPU), bf16 or fp16"
    )
    lr_decay: float = Field(1.0, gt=0, le=1, description="factor on lr after each task")

    @model_validator(mode="after")
    def _check(self) -> "Recipe":
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: expected false where momentum is 0, got true")
        return self


class MethodRules(NamedTuple):
    """The rules by which settings are checked for one method.

    Attributes:
        own: Settings, and keys of the recipe, that are refused with methods that do not list them too.
        needs_continual: Whether it needs ``--continual``.
        may_grow: Whether a finished run may go on with more tasks.
    """

    own: tuple[str, ...]
    needs_continual: bool = True
    may_grow: bool = True


# The one list of methods; their classes stand in the table of modelzoo.py, which imports torch.
METHODS = {
    "modelzoo": MethodRules(("tasks_per_round", "replay_frac", "naive", "warm_start"), needs_continual=False),
    "sgd": MethodRules(("lr_decay",)),
    "ewc": MethodRules(("lr_decay", "ewc_weight")),
    "agem": MethodRules(("lr_decay", "memory")),
    "er": MethodRules(("lr_decay", "memory"), may_grow=False),  # its memory's size depends on all classes
}
NOT_CONTINUAL = " or ".join(name for name, rules in METHODS.items() if not rules.needs_continual)


def methods_with(key: str) -> str:
    """The methods that a setting, or a key of the recipe, is for; empty if it is for all."""
    return ", ".join(name for name, rules in METHODS.items() if key in rules.own)


class Settings(Frozen):
    """What is computed. On one machine, with equal options, two runs with equal settings end with equal numbers.

    ``changed`` lists the recipe's keys that flags set to other values than those in the recipe's file.
    """

    benchmark_name: str
    recipe_name: str
    changed: tuple[str, ...] = ()
    method: str = Field("modelzoo", description=f"{', '.join(METHODS)}; without --continual only {NOT_CONTINUAL}")
    memory: int = Field(1, ge=1, description="training examples kept of a class")
    ewc_weight: float = Field(1.0, ge=0, description="factor on the penalty for moved weights")
    epochs: int = Field(100, ge=1, description="passes over a learner's data; 1 switches augmentation off")
    continual: bool = Field(False, description="tasks arrive one at a time, in the benchmark's order")
    tasks_per_round: Count | Literal["all"] = Field(5, description="tasks a learner trains on, the new one included")
    num_rounds: Count | Literal["all"] = Field("all", description="learners to grow; all is the number of tasks")
    replay_frac: float = Field(1.0, ge=0, le=1, description="fraction of a past task's training examples used again")
    samples: int | None = Field(None, ge=1, description="training examples kept per class (all)")
    validation: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="fraction of each class's training images held out, and scored in place of test images",
    )
    naive: bool = Field(False, description="draw tasks uniformly: the ablation of boosting")
    warm_start: bool = Field(False, description="multi-task mode only: the first learner has all tasks")
    seed: Seed = Field(100, description="the only source of randomness")
    benchmark: Benchmark
    recipe: Recipe

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        most, names = len(self.benchmark.tasks), (self.benchmark_name, self.recipe_name, str(self.benchmark.root))
        if any(re.search("[\ud800-\udfff]", name) for name in names):
            raise ValueError(f"data_config, hp_config, root: expected names in UTF-8, got {short(names)}")
        if self.continual and self.total_rounds > most:
            raise ValueError(f"num_rounds: expected at most {most}, a round a task, or all, got {self.num_rounds}")
        if self.continual and self.warm_start:
            raise ValueError("warm_start: expected without --continual, where the first learner has one task")
        if self.replay_frac < 1 and not self.continual:
            raise ValueError(f"replay_frac: expected 1 without --continual: no task is past, got {self.replay_frac}")
        if self.method not in METHODS:
            raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {short(self.method)}")
        if METHODS[self.method].needs_continual and not self.continual:
            raise ValueError(f"method: expected {NOT_CONTINUAL} without --continual, got {self.method}")
        for key in {key: None for rules in METHODS.values() for key in rules.own}:
            values: Frozen = self.recipe if key in Recipe.model_fields else self
            got, default = getattr(values, key), type(values).model_fields[key].default
            if key not in METHODS[self.method].own and got != default:
                expected = f"expected {default} with --method {self.method} (it is for {methods_with(key)})"
                raise ValueError(f"{key}: {expected}, got {got}")
        return self

    @property
    def max_per_round(self) -> int:
        """The number that ``tasks_per_round`` stands for: ``all`` is the number of tasks."""
        return len(self.benchmark.tasks) if self.tasks_per_round == "all" else self.tasks_per_round

    @property
    def total_rounds(self) -> int:
        """The number that ``num_rounds`` stands for: ``all`` is the number of tasks."""
        return len(self.benchmark.tasks) if self.num_rounds == "all" else self.num_rounds

    @property
    def run_name(self) -> str:
        """The run folder's default name: files, mode, B, epochs, then what differs from the defaults, the seed last."""
        mode = "continual" if self.continual else "multitask"
        method = f"b{self.max_per_round}" if self.method == "modelzoo" else self.method
        parts = [self.benchmark_name, self.recipe_name, mode, method, f"e{self.epochs}"]
        if self.total_rounds != len(self.benchmark.tasks):
            parts.append(f"k{self.total_rounds}")
        always = {"continual", "method", "tasks_per_round", "epochs", "num_rounds", "seed"}
        letters = {"replay_frac": "f", "samples": "n", "validation": "v", "warm_start": "warm"}
        for name, field in Settings.model_fields.items():
            value = getattr(self, name)
            if field.description and name not in always and value != field.default:
                parts.append(_in_name(letters.get(name, name), value))
        parts += [_in_name(key, getattr(self.recipe, key)) for key in Recipe.model_fields if key in self.changed]
        return "-".join([*parts, f"s{self.seed}"])

    @property
    def scored_on(self) -> str:
        """The images that accuracies are of: test, or validation."""
        return "validation" if self.validation > 0 else "test"

    def differences(self, other: "Settings") -> dict[str, tuple[Any, Any]]:
        """By key, such as ``epochs`` or ``recipe.lr``: the value here and the other one, where they differ.

        See ``compared`` for what is left out.
        """
        mine, others = self.compared(), other.compared()
        return {key: (mine[key], others[key]) for key in mine if mine[key] != others[key]}

    def compared(self) -> dict[str, Any]:
        """Every setting that affects the results, by key, with the number in place of ``all``.

        The names of the files are left out, and ``benchmark.root``, which only says where the data are.
        """
        values = self.model_dump(mode="json", exclude={"benchmark_name", "recipe_name", "changed"})
        parts = {f"{part}.{key}": value for part in ("benchmark", "recipe") for key, value in values.pop(part).items()}
        values |= {"tasks_per_round": self.max_per_round, "num_rounds": self.total_rounds}
        return {key: value for key, value in (values | parts).items() if key != "benchmark.root"}


def _in_name(key: str, value: object) -> str:
    """A setting as a part of a run's name."""
    if isinstance(value, bool):
        return key if value else f"no_{key}"
    return key + (f"{value:g}" if isinstance(value, float) else str(value))


class Machine(Frozen):
    """Where and how runs are done. It changes results by rounding only (and ``auto`` precision is fp16 on CUDA)."""

    data_dir: Path = Field(Path("data"), description="where data sets are looked for, and downloaded to")
    no_download: bool = Field(False, description="never touch the network")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:<i> or mps")
    threads: int | None = Field(None, ge=1, le=10_000, description="CPU threads of a process (all)")
    compile: bool = Field(False, description="compile the training step: for long runs on a GPU")
    tensorboard: bool = Field(False, description="also write event files for TensorBoard into the run folder")
    checkpoint_every_sec: float = Field(300.0, ge=0, description="seconds of training that may be lost at most")

    @model_validator(mode="after")
    def _check_tensorboard(self) -> "Machine":
        if self.tensorboard and find_spec("tensorboard") is None:
            raise ValueError("tensorboard needs its package: pip install -r requirements-tensorboard.txt")
        return self


class Options(Machine):
    """What is done with the run folder, on which machine."""

    run_dir: Path | None = Field(None, description="the run folder (made from the settings, under ./runs)")
    resume: bool = Field(False, description="go on with the run folder, if there is one")
    overwrite: bool = Field(False, description="delete what a run wrote in the run folder, and start anew")
    check_data: bool = Field(False, description="load the data, download what is missing of them, and stop")
    dry_run: bool = Field(False, description="check, plan, time a few steps; write nothing, download nothing")

    @property
    def may_download(self) -> bool:
        """Whether data sets may be downloaded."""
        return not (self.no_download or self.dry_run)


def find_file(path: Path) -> Path:
    """The path of a file that may come with the program: from the project's folder, if not from the current one.

    Raises:
        UserError: There is no such file from either.
    """
    for found in (path, ROOT / path):
        if os.path.exists(found):
            return found
    raise UserError(f"{path}: no such file, seen from {' or '.join(sorted({str(Path.cwd()), str(ROOT)}))}")


def read_file(model: type[Model], path: Path) -> Model:
    """A file that may come with the program, as a model. Raises UserError."""
    return validate(model, read_yaml(find_file(path)), path)


def read_benchmark(path: Path) -> Benchmark:
    """A benchmark file; its ``root`` becomes absolute, counted from the file. Raises UserError."""
    benchmark = read_file(Benchmark, path)
    root = benchmark.root and (find_file(path).parent / benchmark.root).resolve()
    return benchmark.model_copy(update={"root": root})


def read_settings(path: Path) -> Settings:
    """A run folder's ``config.yaml``. Raises UserError."""
    values = read_yaml(path)
    written_as = values.pop("format", "none")
    if "benchmark" in values and written_as != FORMAT:
        raise UserError(f"{path}: format: expected {FORMAT}, got {short(written_as)}: another version wrote this run")
    return validate(Settings, values, path)


def settings_to_yaml(settings: Settings) -> str:
    """The content of ``config.yaml``; ``read_settings`` gives the same settings back."""
    head = "# The resolved settings of this run. To run them again: python modelzoo.py --config config.yaml\n"
    return head + to_yaml({"format": FORMAT} | settings.model_dump(mode="json"))


def validate(model: type[Model], values: Any, path: Path | str | None = None) -> Model:
    """The values as a model; ``path`` is their file, and without one they come from flags.

    Raises:
        UserError: One line on the first mistake: its file and key, or its flag, and mostly pydantic's words.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        source = "--" if path is None else f"{path}: "
        raise UserError(source + _explain(error.errors()[0], model, is_flag=path is None)) from error


def _explain(mistake: Any, model: type[BaseModel], *, is_flag: bool) -> str:
    """Where a mistake is, what was expected, what was got."""
    place, text, got = mistake["loc"], mistake["msg"].removeprefix("Value error, "), mistake["input"]
    if len(place) > 1 and place[-1] in ("int", "constrained-int", "str"):  # which of two types: no key
        place = place[:-1]
    if mistake["type"] == "value_error" and not place:  # ours, on several keys: it names them
        return text
    if mistake["type"] == "extra_forbidden" and len(place) == 1:
        text = f"expected one of the keys {', '.join(model.model_fields)}"
    if is_flag and place[0] in OR_ALL:
        text = f"{text.partition(',')[0]}, or all"
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    return f"{where}: {text.replace('Input should be', 'expected')}, got {short(got)}"
