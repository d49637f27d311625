"""Settings, typed and checked at the door: the flags, the benchmark file, the recipe file.

Nothing here imports torch, so that a whole suite of runs can be checked in an instant.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

NUM_CLASSES = {
    "cifar10": 10,
    "cifar100": 100,
    "mnist": 10,
    "rotated_mnist": 360,
    "permuted_mnist": 360,
    "mini_imagenet": 100,
    "digits": 10,
}
OWN_DATA = ("npz", "image_folder")
VARIANT_DATA = ("rotated_mnist", "permuted_mnist")


class ConfigError(Exception):
    """A mistake in a flag or a file; the message says which, what is expected and what was got."""


class Frozen(BaseModel):
    """A group of settings that admits no unknown key, no infinity and no change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Model = TypeVar("Model", bound=Frozen)


def _two_distinct(classes: tuple[int | str, ...]) -> tuple[int | str, ...]:
    if len(classes) < 2:
        raise ValueError(f"expected two classes or more, got {list(classes)}")
    twice = sorted({str(item) for item in classes if classes.count(item) > 1})
    if twice:
        raise ValueError(f"expected each class once, got {', '.join(twice)} twice")
    return classes


Classes = Annotated[tuple[StrictInt | StrictStr, ...], AfterValidator(_two_distinct)]


class Benchmark(Frozen):
    """What a benchmark file says: a data set and the classes of each task, in the order of the tasks."""

    dataset: Literal[
        "cifar10",
        "cifar100",
        "mnist",
        "rotated_mnist",
        "permuted_mnist",
        "mini_imagenet",
        "digits",
        "npz",
        "image_folder",
    ]
    tasks: tuple[Classes, ...] = Field(min_length=1)
    task_names: tuple[StrictStr, ...] = ()
    flip: StrictBool = True
    root: Path | None = None
    image_size: StrictInt | None = Field(default=None, ge=1)
    test_fraction: StrictFloat | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> "Benchmark":
        if self.task_names and len(self.task_names) != len(self.tasks):
            raise ValueError(f"task_names: expected {len(self.tasks)} names, got {len(self.task_names)}")
        if len(set(self.task_names)) < len(self.task_names):
            raise ValueError("task_names: expected names that differ")
        if (self.root is not None) != (self.dataset in OWN_DATA):
            needs = "a path" if self.dataset in OWN_DATA else f"none for {self.dataset}"
            raise ValueError(f"root: expected {needs}, got {self.root}")
        if "\0" in str(self.root):
            raise ValueError(f"root: expected a path, got {str(self.root)!r}")
        if self.dataset != "image_folder" and (self.image_size or self.test_fraction):
            raise ValueError("image_size, test_fraction: expected for image_folder only")
        if self.dataset in NUM_CLASSES:
            for task_id, classes in enumerate(self.tasks):
                self._check_ids(task_id, classes)
        return self

    def _check_ids(self, task_id: int, classes: Sequence[int | str]) -> None:
        limit = NUM_CLASSES[self.dataset]
        for item in classes:
            if not isinstance(item, int) or not 0 <= item < limit:
                raise ValueError(f"tasks[{task_id}]: expected class ids 0..{limit - 1} of {self.dataset}, got {item!r}")
        variants = {int(item) // 10 for item in classes}
        if self.dataset in VARIANT_DATA and len(variants) > 1:
            raise ValueError(f"tasks[{task_id}]: expected classes 10x..10x+9 of one variant x, got {list(classes)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Each task's name: its own, or ``task 0``, ``task 1``, ..."""
        return self.task_names or tuple(f"task {task_id}" for task_id in range(len(self.tasks)))


class Recipe(Frozen):
    """What a recipe file says: the network and how a learner is trained."""

    model: StrictStr
    batch: StrictInt = Field(ge=1)
    lr: StrictFloat = Field(gt=0)
    l2_reg: StrictFloat = Field(ge=0)
    dropout: StrictFloat = Field(ge=0, lt=1)
    momentum: StrictFloat = Field(default=0.9, ge=0, lt=1)
    nesterov: StrictBool = True
    schedule: Literal["cosine", "constant"] = "cosine"
    augment: Literal["auto", "none"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"

    @model_validator(mode="after")
    def _check(self) -> "Recipe":
        wrn = re.fullmatch(r"wrn(\d+)_([1-9]\d*)", self.model)
        if self.model != "conv" and not (wrn and int(wrn[1]) >= 10 and int(wrn[1]) % 6 == 4):
            raise ValueError(f"model: expected conv or wrn<depth>_<width>, depth 10, 16, 22, ..., got {self.model!r}")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: expected false where momentum is 0, got true")
        return self


class Settings(Frozen):
    """What is computed. Two runs with equal settings on one machine end with equal numbers."""

    benchmark_name: str
    recipe_name: str
    epochs: int = Field(ge=1)
    continual: bool
    tasks_per_round: int = Field(ge=1)
    num_rounds: int = Field(ge=1)
    replay_frac: float = Field(ge=0, le=1)
    samples: int | None = Field(ge=1)
    naive: bool
    warm_start: bool
    seed: int = Field(ge=0)
    benchmark: Benchmark
    recipe: Recipe

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        num_tasks = len(self.benchmark.tasks)
        if self.tasks_per_round > num_tasks:
            raise ValueError(
                f"tasks_per_round: expected at most {num_tasks}, the tasks there are, got {self.tasks_per_round}"
            )
        if self.continual and self.num_rounds > num_tasks:
            raise ValueError(
                f"num_rounds: expected at most {num_tasks} with --continual, a round a task, got {self.num_rounds}"
            )
        if self.continual and self.warm_start:
            raise ValueError(
                "warm_start: expected without --continual, where the first learner can only have the first task"
            )
        if self.replay_frac < 1 and not self.continual:
            raise ValueError(
                f"replay_frac: expected 1 without --continual, where no task is past, got {self.replay_frac}"
            )
        return self

    @property
    def run_name(self) -> str:
        """The run folder's default name: the settings in short, those at their defaults left out."""
        num_tasks = len(self.benchmark.tasks)
        parts = [
            self.benchmark_name,
            self.recipe_name,
            "continual" if self.continual else "multitask",
            f"b{self.tasks_per_round}",
            f"e{self.epochs}",
            f"k{self.num_rounds}" if self.num_rounds != num_tasks else "",
            f"f{self.replay_frac:g}" if self.replay_frac != 1 else "",
            f"n{self.samples}" if self.samples is not None else "",
            "naive" if self.naive else "",
            "warm" if self.warm_start else "",
            f"s{self.seed}",
        ]
        return "-".join(part for part in parts if part)

    @property
    def computed(self) -> dict[str, Any]:
        """The settings as plain values, without the names of the files they came from."""
        return self.model_dump(mode="json", exclude={"benchmark_name", "recipe_name"})


class Options(Frozen):
    """Where and how a run is done: nothing here changes what is computed, up to rounding on another device."""

    data_dir: Path
    no_download: bool
    run_dir: Path | None
    resume: bool
    overwrite: bool
    device: str
    threads: int | None = Field(ge=1)
    compile: bool
    checkpoint_every_sec: float = Field(ge=0)
    dry_run: bool


class Grow(Frozen):
    """The command to grow a zoo."""

    settings: Settings
    options: Options
    tasks_per_round_is_given: bool  # as a number; otherwise a run that grows keeps its own


class Evaluate(Frozen):
    """The command to test a zoo that was grown."""

    run_dir: Path
    options: Options


class Predict(Frozen):
    """The command to classify images by a zoo that was grown."""

    run_dir: Path
    task: str
    images: tuple[Path, ...]
    options: Options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (--help lists the flags)")


SETTING_DEFAULTS: dict[str, Any] = {
    "data_config": Path("config/dataset/coarse_cifar100.yaml"),
    "hp_config": Path("config/hyperparam/wrn.yaml"),
    "epochs": 100,
    "continual": False,
    "tasks_per_round": None,
    "num_rounds": None,
    "replay_frac": 1.0,
    "samples": None,
    "naive": False,
    "warm_start": False,
    "seed": 100,
}


def build_parser() -> argparse.ArgumentParser:
    """The flags. Those that decide what is computed have no default here, to tell which were given."""
    parser = _Parser(
        prog="modelzoo.py",
        description="Grow a zoo of small multi-head networks, one a round, by boosting over tasks.",
        epilog="Isolated: --continual --tasks_per_round 1. Multi-Head: --num_rounds 1 --tasks_per_round all. "
        "Exit status: 0 done, 1 --evaluate found another accuracy, 2 a mistake in the command or its files, "
        "3 stopped by a signal with the state saved.",
        allow_abbrev=False,
        argument_default=None,
    )
    what = parser.add_argument_group("what is computed", argument_default=argparse.SUPPRESS)
    add = what.add_argument
    add("--data_config", type=Path, metavar="PATH", help="the benchmark (config/dataset/coarse_cifar100.yaml)")
    add("--hp_config", type=Path, metavar="PATH", help="the recipe (config/hyperparam/wrn.yaml)")
    add("--epochs", type=int, metavar="N", help="passes over a learner's data; 1 switches augmentation off (100)")
    add("--continual", action="store_true", help="tasks arrive one at a time, in the benchmark's order")
    add("--tasks_per_round", metavar="B", help="tasks a learner is trained on, the new one included, or all (5)")
    add("--num_rounds", type=int, metavar="K", help="learners to grow (the number of tasks)")
    add("--replay_frac", type=float, metavar="F", help="fraction of a past task's training examples used again (1.0)")
    add("--samples", type=int, metavar="N", help="training examples kept per class (all)")
    add("--naive", action="store_true", help="draw tasks uniformly: the ablation of boosting")
    add("--warm_start", action="store_true", help="multi-task mode only: the first learner has all tasks")
    add("--seed", type=int, metavar="S", help="the only source of randomness (100)")
    add("--config", type=Path, metavar="FILE", help="a run folder's config.yaml in place of the flags above")

    how = parser.add_argument_group("where and how")
    add = how.add_argument
    add("--data_dir", type=Path, default=Path("data"), metavar="DIR", help="where data sets are, and are put (./data)")
    add("--no_download", action="store_true", help="never touch the network")
    add("--run_dir", type=Path, metavar="DIR", help="the run folder (made from the settings, under ./runs)")
    add("--resume", action="store_true", help="go on with the run folder, if there is one")
    add("--overwrite", action="store_true", help="throw the run folder away and start anew")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (auto)")
    add("--threads", type=int, metavar="N", help="CPU threads of this process (all)")
    add("--compile", action="store_true", help="compile the training step: for long runs on a GPU")
    add("--checkpoint_every_sec", type=float, default=300.0, metavar="N", help="training lost at most (300)")
    add("--dry_run", action="store_true", help="check, plan, time a few steps; write nothing, download nothing")

    use = parser.add_argument_group("use a zoo that was grown")
    use.add_argument("--evaluate", type=Path, metavar="RUN_DIR", help="test accuracies again, from the saved learners")
    use.add_argument(
        "--predict", type=Path, metavar="RUN_DIR", help="classify images: --predict RUN_DIR --task T IMAGE..."
    )
    use.add_argument("--task", metavar="NAME_OR_ID", help="the task that the images belong to")
    use.add_argument("images", type=Path, nargs="*", metavar="IMAGE", help="image files")
    return parser


def read_command(argv: Sequence[str]) -> Grow | Evaluate | Predict:
    """The command line, checked, with its files.

    Args:
        argv: without the program's name.

    Raises:
        ConfigError: a mistake in a flag or a file.
    """
    flags = vars(build_parser().parse_args(argv))
    given = {key: flags.pop(key) for key in (*SETTING_DEFAULTS, "config") if key in flags}
    evaluate, predict, task, images = (flags.pop(key) for key in ("evaluate", "predict", "task", "images"))
    options = validate(Options, flags)
    if options.resume and options.overwrite:
        raise ConfigError("--resume, --overwrite: expected one of them, got both")
    if (evaluate or predict) and given:
        raise ConfigError(f"--{next(iter(given))}: expected no settings here: the run has its own")
    if evaluate and predict:
        raise ConfigError("--evaluate, --predict: expected one of them, got both")
    if len({bool(predict), bool(task), bool(images)}) > 1:
        raise ConfigError("--predict: expected --predict RUN_DIR --task NAME_OR_ID IMAGE..., got a part of that")
    if evaluate:
        return Evaluate(run_dir=evaluate, options=options)
    if predict:
        return Predict(run_dir=predict, task=task, images=images, options=options)
    number_given = "config" in given or given.get("tasks_per_round", "all") != "all"
    return Grow(settings=_settings(given), options=options, tasks_per_round_is_given=number_given)


def _settings(given: dict[str, Any]) -> Settings:
    if "config" in given:
        path = given.pop("config")
        if given:
            raise ConfigError(f"--{next(iter(given))}: expected no settings beside --config, which has them all")
        return read_settings(path)
    flags = SETTING_DEFAULTS | given
    data_config, hp_config = flags.pop("data_config"), flags.pop("hp_config")
    benchmark, recipe = read_benchmark(data_config), read_recipe(hp_config)
    num_tasks = len(benchmark.tasks)
    flags["tasks_per_round"] = _task_count(flags["tasks_per_round"], num_tasks)
    flags["num_rounds"] = num_tasks if flags["num_rounds"] is None else flags["num_rounds"]
    names = {"benchmark_name": data_config.stem, "recipe_name": hp_config.stem}
    return validate(Settings, flags | names | {"benchmark": benchmark, "recipe": recipe})


def _task_count(text: str | None, num_tasks: int) -> int:
    if text is None:
        return min(5, num_tasks)
    if text == "all":
        return num_tasks
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"--tasks_per_round: expected a number or all, got {text!r}") from None


def read_benchmark(path: Path) -> Benchmark:
    """A benchmark file; its ``root`` comes back absolute, counted from the file. Raises ConfigError."""
    benchmark = validate(Benchmark, read_yaml(path), path)
    if benchmark.root is None:
        return benchmark
    return benchmark.model_copy(update={"root": (path.parent / benchmark.root).resolve()})


def read_recipe(path: Path) -> Recipe:
    """A recipe file. Raises ConfigError."""
    return validate(Recipe, read_yaml(path), path)


def read_settings(path: Path) -> Settings:
    """A run folder's ``config.yaml``. Raises ConfigError."""
    return validate(Settings, read_yaml(path), path)


def settings_to_yaml(settings: Settings) -> str:
    """What ``config.yaml`` holds; ``read_settings`` gives the same settings back."""
    values = settings.model_dump(mode="json", exclude_none=False)
    head = "# The resolved settings of this run. To run them again: python modelzoo.py --config config.yaml\n"
    return head + yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=120)


class _KeyTwiceError(yaml.MarkedYAMLError):
    """YAML forbids it; PyYAML would take the last."""


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if (key.tag, key.value) in seen:
                problem = f"expected each key once, got {key.value!r} twice"
                raise _KeyTwiceError(problem=problem, problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
        return node


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's keys and values. Raises ConfigError."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a date or number that there is not
        raise ConfigError(
            f"{path}: expected a YAML file that can be read ({error.__class__.__name__}: {error})"
        ) from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}:" if where else ""
        problem = getattr(error, "problem", None) or "not YAML"
        said = problem if isinstance(error, _KeyTwiceError) else f"expected YAML, got a mistake: {problem}"
        raise ConfigError(f"{path}:{line} {said}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values, got {type(values).__name__}")
    return values


def validate(model: type[Model], values: dict[str, Any], path: Path | None = None) -> Model:
    """The values as a model. Raises ConfigError: one line on the first mistake, with its file and key, or its flag."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first, *others = error.errors()
        keys = {mistake["loc"][:1] for mistake in others} - {first["loc"][:1]}  # one mistake in a key may bring others
        more = f" (and mistakes in {len(keys)} more)" if keys else ""
        raise ConfigError(_explain(first, model, path) + more) from error


PLAINER = {  # than pydantic's words
    "tuple_type": "expected a list",
    "too_short": "expected one item or more",
    "path_type": "expected a path",
    "invalid_key": "expected words as keys",
}


def _model_at(place: Sequence[int | str], model: type[BaseModel]) -> type[BaseModel]:
    """The model whose key a place ends with."""
    for key in place:
        annotation = model.model_fields[key].annotation if key in model.model_fields else None
        for kind in (annotation, *get_args(annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
    return model


def _explain(mistake: Any, model: type[BaseModel], path: Path | None) -> str:
    """One line from pydantic's account of a mistake: where, what is expected, what was got."""
    loc, text, got = mistake["loc"], mistake["msg"], mistake["input"]
    of_class = len(loc) > 2 and isinstance(loc[-2], int) and loc[-1] in ("int", "str")  # which of two types: no key
    if of_class or mistake["type"] == "invalid_key":
        loc = loc[:-1]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    if of_class:
        text = f"expected a class id or name, got {got!r}"
    elif mistake["type"] == "value_error":
        text = text.removeprefix("Value error, ")  # ours: it has the whole story but for the key of a nested value
    elif mistake["type"] == "extra_forbidden":
        text = (
            f"expected one of the keys {', '.join(_model_at(mistake['loc'], model).model_fields)}, got an unknown one"
        )
    elif mistake["type"] == "missing":
        text = "expected this key, got none"
    elif mistake["type"] in PLAINER:
        text = f"{PLAINER[mistake['type']]}, got {got!r}"
    else:
        text = (
            f"{re.sub(r'^[A-Z][a-z]+ should', 'expected to', text).replace('expected to be', 'expected')}, got {got!r}"
        )
        if isinstance(got, str) and re.fullmatch(r"[+-]?\d+e[+-]?\d+", got, re.IGNORECASE):
            text += (
                f" (YAML takes {got} for text: write {got[: got.lower().index('e')]}.0{got[got.lower().index('e') :]})"
            )
    prefix = "--" if path is None else f"{path}: "
    return f"{prefix}{place}: {text}" if place else f"{prefix}{text}"
