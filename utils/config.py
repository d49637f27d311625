"""Settings, typed and checked before anything starts: the flags, the benchmark file, the recipe file.

Nothing here imports torch, so that a whole suite of runs is checked in an instant.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

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
from pydantic_core import PydanticUndefined

from utils.errors import Parser, UserError, in_one_line, short

FORMAT = 2  # of run folders; it stands in their config.yaml


class Frozen(BaseModel):
    """A group of values that admits no unknown key, no infinity and no change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Model = TypeVar("Model", bound=BaseModel)


def _two_distinct(classes: tuple[int | str, ...]) -> tuple[int | str, ...]:
    if len(classes) < 2:
        raise ValueError("expected two classes or more")
    if len(set(classes)) < len(classes):
        raise ValueError("expected each class once")
    return classes


Classes = Annotated[tuple[StrictInt | StrictStr, ...], AfterValidator(_two_distinct)]


class Benchmark(Frozen):
    """What a benchmark file says: a data set and the classes of each task, in the order of the tasks.

    ``root``, ``image_size`` and ``test_fraction`` are for the user's own data; the loaders in ``datasets`` check them,
    the name of the data set, and its classes.
    """

    dataset: StrictStr
    tasks: tuple[Classes, ...] = Field(min_length=1)
    task_names: tuple[StrictStr, ...] = ()
    flip: StrictBool = True
    root: Path | None = None
    image_size: StrictInt | None = Field(default=None, ge=1, le=10_000)
    test_fraction: StrictFloat | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> "Benchmark":
        if self.task_names and len(self.task_names) != len(self.tasks):
            raise ValueError(f"task_names: expected {len(self.tasks)} names, got {len(self.task_names)}")
        if len(set(self.task_names)) < len(self.task_names):
            raise ValueError("task_names: expected names that differ")
        if "\0" in str(self.root):
            raise ValueError("root: expected a path, got one with a NUL character")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Each task's name: the one in the file, or ``task 0``, ``task 1``, ..."""
        return self.task_names or tuple(f"task {task_id}" for task_id in range(len(self.tasks)))

    def select(self, task_ids: Sequence[int]) -> "Benchmark":
        """The benchmark with only these tasks, in this order, under their names here. Raises UserError."""
        known = range(len(self.tasks))
        if len(set(task_ids)) < len(task_ids) or not set(task_ids) <= set(known):
            raise UserError(f"--task_ids: expected ids 0..{known[-1]}, each once, got {short(list(task_ids))}")
        tasks, names = ([values[task_id] for task_id in task_ids] for values in (self.tasks, self.names))
        return self.model_copy(update={"tasks": tuple(tasks), "task_names": tuple(names)})


class Recipe(Frozen):
    """What a recipe file says: the network, whose name ``net`` checks, and how a learner is trained."""

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
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: expected false where momentum is 0, got true")
        return self


class Settings(Frozen):
    """What is computed. Two runs with equal settings on one machine end with equal numbers."""

    benchmark_name: str
    recipe_name: str
    epochs: int = Field(100, ge=1, description="passes over a learner's data; 1 switches augmentation off")
    continual: bool = Field(False, description="tasks arrive one at a time, in the benchmark's order")
    tasks_per_round: int = Field(5, ge=1, description="tasks a learner is trained on, the new one included, or all")
    num_rounds: int = Field(ge=1, le=100_000, description="learners to grow (the number of tasks)")
    replay_frac: float = Field(1.0, ge=0, le=1, description="fraction of a past task's training examples used again")
    samples: int | None = Field(None, ge=1, description="training examples kept per class (all)")
    naive: bool = Field(False, description="draw tasks uniformly: the ablation of boosting")
    warm_start: bool = Field(False, description="multi-task mode only: the first learner has all tasks")
    seed: int = Field(100, ge=0, description="the only source of randomness")
    benchmark: Benchmark
    recipe: Recipe

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        most = len(self.benchmark.tasks)
        if self.continual and self.num_rounds > most:
            raise ValueError(f"num_rounds: expected at most {most}, a round a task, got {self.num_rounds}")
        if self.continual and self.warm_start:
            raise ValueError("warm_start: expected without --continual, where the first learner has one task")
        if self.replay_frac < 1 and not self.continual:
            raise ValueError(f"replay_frac: expected 1 without --continual: no task is past, got {self.replay_frac}")
        return self

    @property
    def run_name(self) -> str:
        """The run folder's default name: files, mode, B, epochs, then what differs from the defaults, the seed last."""
        mode = "continual" if self.continual else "multitask"
        parts = [self.benchmark_name, self.recipe_name, mode, f"b{self.tasks_per_round}", f"e{self.epochs}"]
        if self.num_rounds != len(self.benchmark.tasks):
            parts.append(f"k{self.num_rounds}")
        always = {"continual", "tasks_per_round", "epochs", "num_rounds", "seed"}
        letters = {"replay_frac": "f", "samples": "n", "warm_start": "warm"}
        for name, field in Settings.model_fields.items():
            value = getattr(self, name)
            if field.description and name not in always and value != field.default:
                parts.append(letters.get(name, name) + ("" if value is True else f"{value:g}"))
        return "-".join([*parts, f"s{self.seed}"])

    @property
    def computed(self) -> dict[str, Any]:
        """The settings as plain values, without the names of the files that they came from."""
        return self.model_dump(mode="json", exclude={"benchmark_name", "recipe_name"})


class Options(Frozen):
    """Where and how a run is done: nothing here changes what is computed, up to rounding on another device."""

    data_dir: Path = Field(Path("data"), description="where data sets are looked for, and downloaded to")
    no_download: bool = Field(False, description="never touch the network")
    run_dir: Path | None = Field(None, description="the run folder (made from the settings, under ./runs)")
    resume: bool = Field(False, description="go on with the run folder, if there is one")
    overwrite: bool = Field(False, description="delete what a run wrote in the run folder, and start anew")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:<i> or mps")
    threads: int | None = Field(None, ge=1, le=10_000, description="CPU threads of this process (all)")
    compile: bool = Field(False, description="compile the training step: for long runs on a GPU")
    checkpoint_every_sec: float = Field(300.0, ge=0, description="how much training may be lost at most")
    dry_run: bool = Field(False, description="check, plan, time a few steps; write nothing, download nothing")

    @property
    def may_download(self) -> bool:
        """Whether data sets may be downloaded."""
        return not (self.no_download or self.dry_run)


class Grow(Frozen):
    """The command to grow a zoo."""

    settings: Settings
    options: Options


class Use(Frozen):
    """The command to use a zoo that was grown: to classify images of a task or, if there are none, to test it."""

    run_dir: Path
    options: Options
    task: str = ""
    images: tuple[Path, ...] = ()


def build_parser() -> argparse.ArgumentParser:
    """The flags, most of them made from the models' fields, which have the types, the limits and the defaults."""
    parser = Parser(
        prog="modelzoo.py",
        description="Grow a zoo of small multi-head networks, one a round, by boosting over tasks.",
        epilog="Isolated: --continual --tasks_per_round 1. Multi-Head: --num_rounds 1 --tasks_per_round all. "
        "Exit status: 0 done, 1 --evaluate found another accuracy or other data, 2 a mistake in the command or its "
        "files, 3 stopped by a signal with the state saved.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,  # so that it is known which flags were given
    )
    what = parser.add_argument_group("what is computed")
    what.add_argument("--data_config", type=Path, help="the benchmark (config/dataset/coarse_cifar100.yaml)")
    what.add_argument("--hp_config", type=Path, help="the recipe (config/hyperparam/wrn.yaml)")
    what.add_argument("--task_ids", type=int, nargs="+", help="only these tasks of the benchmark, in this order (all)")
    add_flags(what, Settings)
    what.add_argument("--config", type=Path, help="a run folder's config.yaml in place of the flags above")
    add_flags(parser.add_argument_group("where and how"), Options)
    use = parser.add_argument_group("use a zoo that was grown")
    either = use.add_mutually_exclusive_group()
    either.add_argument("--evaluate", type=Path, metavar="RUN_DIR", help="test the saved learners again")
    either.add_argument("--predict", type=Path, metavar="RUN_DIR", help="classify images, with --task and image files")
    use.add_argument("--task", metavar="NAME_OR_ID", help="the task that the images belong to")
    use.add_argument("images", type=Path, nargs="*", metavar="IMAGE", help="image files")
    return parser


def add_flags(group: argparse._ActionsContainer, model: type[BaseModel], **options: dict[str, Any]) -> None:
    """Add a flag for each field of a model that has a description; the model itself checks the values.

    Args:
        group: The parser, or a group of its flags.
        model: The model.
        options: argparse's options of single flags, by field, where they are not those of most flags.
    """
    for name, field in model.model_fields.items():
        if field.description is None:
            continue
        if field.annotation is bool:
            group.add_argument(f"--{name}", action="store_true", help=field.description)
        else:
            default = f" ({field.default})" if field.default not in (None, "", PydanticUndefined) else ""
            group.add_argument(f"--{name}", help=field.description + default, **options.get(name, {}))


def read_command(argv: Sequence[str]) -> Grow | Use:
    """Read and check the command line and the files that it names.

    Args:
        argv: The words of the command line, without the program's name.

    Raises:
        UserError: There is a mistake in a flag or a file.
    """
    given = vars(build_parser().parse_args(argv))
    evaluate, predict, task, images = (given.pop(key, "") for key in ("evaluate", "predict", "task", "images"))
    options = validate(Options, {key: given.pop(key) for key in Options.model_fields if key in given})
    if options.resume and options.overwrite:
        raise UserError("--resume, --overwrite: expected one of them, got both")
    if (evaluate or predict) and given:
        raise UserError(f"--{next(iter(given))}: expected no settings here: the run has its own")
    if len({bool(predict), bool(task), bool(images)}) > 1:
        raise UserError("--predict: expected --predict RUN_DIR --task NAME_OR_ID IMAGE..., got a part of that")
    if evaluate or predict:
        return Use(run_dir=evaluate or predict, options=options, task=task, images=tuple(images))
    return Grow(settings=_settings(given), options=options)


def _settings(given: dict[str, Any]) -> Settings:
    """The settings from the flags that were given."""
    if "config" in given:
        path = given.pop("config")
        if given:
            raise UserError(f"--{next(iter(given))}: expected no settings beside --config, which has them all")
        return read_settings(path)
    data_config = given.pop("data_config", Path("config/dataset/coarse_cifar100.yaml"))
    hp_config = given.pop("hp_config", Path("config/hyperparam/wrn.yaml"))
    benchmark, name = read_benchmark(data_config), data_config.stem
    if "task_ids" in given:
        task_ids = given.pop("task_ids")
        benchmark = benchmark.select(task_ids)
        name += "-t" + ("_".join(map(str, task_ids)) if len(task_ids) <= 8 else f"{len(task_ids)}tasks")
    if given.get("tasks_per_round") == "all":
        given["tasks_per_round"] = len(benchmark.tasks)
    files = {"benchmark_name": name, "recipe_name": hp_config.stem, "num_rounds": len(benchmark.tasks)}
    return validate(Settings, files | given | {"benchmark": benchmark, "recipe": read_recipe(hp_config)})


def read_benchmark(path: Path) -> Benchmark:
    """A benchmark file; its ``root`` becomes absolute, counted from the file. Raises UserError."""
    benchmark = validate(Benchmark, read_yaml(path), path)
    if benchmark.root is None:
        return benchmark
    return benchmark.model_copy(update={"root": (path.parent / benchmark.root).resolve()})


def read_recipe(path: Path) -> Recipe:
    """A recipe file. Raises UserError."""
    return validate(Recipe, read_yaml(path), path)


def read_settings(path: Path) -> Settings:
    """A run folder's ``config.yaml``. Raises UserError."""
    values = read_yaml(path)
    written_as = values.pop("format", "none")
    if "benchmark" in values and written_as != FORMAT:
        raise UserError(f"{path}: format: expected {FORMAT}, got {short(written_as)}: another version wrote this run")
    return validate(Settings, values, path)


def settings_to_yaml(settings: Settings) -> str:
    """The content of ``config.yaml``; ``read_settings`` gives the same settings back."""
    values = {"format": FORMAT} | settings.model_dump(mode="json")
    head = "# The resolved settings of this run. To run them again: python modelzoo.py --config config.yaml\n"
    return head + yaml.dump(values, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120)


YAML_1_2 = {  # the core schema, but for whole numbers with a leading zero: those are text
    "null": (r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "merge": (r"<<", "<"),
}


class _Loader(yaml.SafeLoader):
    """PyYAML reads YAML 1.1, where ``no`` is false, ``1:30`` is 90, ``010`` is 8 and ``1e-5`` is text."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 (PyYAML's way)

    def construct_scalar(self, node: Any) -> Any:
        text = super().construct_scalar(node)
        # JSON writes a letter beyond the basic plane as two escapes.
        return text.encode("utf-16", "surrogatepass").decode("utf-16") if isinstance(text, str) else text

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if (key.tag, key.value) in seen:
                problem = f"expected each key once, got {short(key.value)} twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would read as something else than text."""

    yaml_implicit_resolvers = {first: [*each] for first, each in yaml.SafeDumper.yaml_implicit_resolvers.items()}  # noqa: RUF012


for _name, (_pattern, _first) in YAML_1_2.items():
    for _kind in (_Loader, _Dumper):
        _kind.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z"), list(_first))


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's keys and values. Raises UserError."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: not UTF-8, or half a letter
        raise UserError(f"{path}: expected a YAML file that can be read ({in_one_line(error)})") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected keys and values, got {short(values)}")
    return values


def validate(model: type[Model], values: Any, path: Path | None = None) -> Model:
    """The values as a model; ``path`` is their file, and without one they come from flags.

    Raises:
        UserError: One line on the first mistake: its file and key, or its flag, and mostly pydantic's words.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        source = "--" if path is None else f"{path}: "
        raise UserError(source + _explain(error.errors()[0], model)) from error


def _explain(mistake: Any, model: type[BaseModel]) -> str:
    """Where a mistake is, what was expected, what was got."""
    place, text, got = mistake["loc"], mistake["msg"].removeprefix("Value error, "), mistake["input"]
    if len(place) > 1 and place[-1] in ("int", "str"):  # which of two types: no key
        place = place[:-1]
    if mistake["type"] == "value_error" and not place:  # ours, on several keys: it names them
        return text
    if mistake["type"] == "extra_forbidden" and len(place) == 1:
        text = f"expected one of the keys {', '.join(model.model_fields)}"
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    return f"{where}: {text.replace('Input should be', 'expected')}, got {short(got)}"
