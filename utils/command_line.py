"""The command line of ``python modelzoo.py``, typed and checked before anything starts."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

from utils.config import (
    OR_ALL,
    Benchmark,
    Frozen,
    Options,
    Recipe,
    Settings,
    methods_with,
    read_benchmark,
    read_file,
    read_settings,
    validate,
)
from utils.errors import UserError
from utils.logger import open_screens, say, write_line
from utils.program import ROOT
from utils.yaml_files import read_value


class Grow(Frozen):
    """The command to grow a zoo."""

    settings: Settings
    options: Options


class Use(Frozen):
    """The command to use a zoo that was grown: to classify images of a task or, if there are none, to test it.

    ``data_from`` is a benchmark whose ``root`` says where the run's data are now; None if they have not moved.
    """

    run_dir: Path
    options: Options
    data_from: Benchmark | None = None
    task: str = ""
    images: tuple[Path, ...] = ()


class Parser(argparse.ArgumentParser):
    """argparse with its mistakes as UserError."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError."""
        raise UserError(f"{message} (--help lists the flags)")

    def print_help(self, file: object = None) -> None:
        """Show the help; argparse's own version fails if the screen is closed."""
        say(self.format_help().rstrip())


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
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32),
    )
    path: dict[str, Any] = {"type": Path, "metavar": "PATH"}
    run_dir: dict[str, Any] = {"type": Path, "metavar": "RUN_DIR"}
    what = parser.add_argument_group("what is computed")
    what.add_argument("--config", **path, help="a run folder's config.yaml; flags override it")
    what.add_argument("--data_config", **path, help="the benchmark (config/dataset/coarse_cifar100.yaml)")
    what.add_argument("--hp_config", **path, help="the recipe (config/hyperparam/wrn.yaml)")
    what.add_argument("--task_ids", nargs="+", metavar="I", help="only these tasks, in this order, or all (all)")
    add_flags(what, Settings, on_or_off=True)
    add_flags(parser.add_argument_group("override the recipe (in brackets: the default)"), Recipe, on_or_off=True)
    add_flags(parser.add_argument_group("where and how"), Options)
    use = parser.add_argument_group("use a zoo that was grown")
    either = use.add_mutually_exclusive_group()
    either.add_argument("--evaluate", **run_dir, help="test the learners again; --data_config says where data lie now")
    either.add_argument("--predict", **run_dir, help="classify images, with --task and image files")
    use.add_argument("--task", metavar="NAME_OR_ID", help="the task that the images belong to")
    use.add_argument("images", nargs="*", metavar="IMAGE", help="image files")
    return parser


def add_flags(
    group: argparse._ActionsContainer, model: type[Frozen], *, on_or_off: bool = False, **options: dict[str, Any]
) -> None:
    """Add a flag for each field of a model that has a description; the model itself checks the values.

    Args:
        group: The parser, or a group of its flags.
        model: The model.
        on_or_off: Whether ``true`` or ``false`` may follow the flag of a boolean field.
        options: Further argparse options of single flags, by field name.
    """
    for name, field in model.model_fields.items():
        if field.description is None:
            continue
        how: dict[str, Any] = {"metavar": "N|all" if name in OR_ALL else _metavar(name, field.annotation)}
        if field.annotation is bool:
            how = how | {"nargs": "?", "const": "true"} if on_or_off else {"action": "store_true"}
        methods = f"; for {methods_with(name)}" if methods_with(name) else ""
        default = f" ({field.default})" if field.default and not field.is_required() else ""
        group.add_argument(f"--{name}", help=field.description + methods + default, **how | options.get(name, {}))


def _metavar(name: str, annotation: Any) -> str:
    """The placeholder after a flag in the help, by the type of its field."""
    kinds = [getattr(kind, "__origin__", kind) for kind in get_args(annotation) or (annotation,)]  # not Annotated
    if isinstance(kinds[0], str):
        return "|".join(kinds)
    return {bool: "true|false", int: "N", float: "X", Path: "PATH"}.get(kinds[0], name.upper())


def read_command(argv: Sequence[str]) -> Grow | Use:
    """Read and check the command line and the files that it names.

    Args:
        argv: The words of the command line, without the program's name.

    Raises:
        UserError: There is a mistake in a flag or a file.
    """
    given = vars(build_parser().parse_intermixed_args(argv))
    given |= {key: OR_ALL[key] for key in OR_ALL if given.get(key) == "all"}
    evaluate, predict, task, images = (given.pop(key, "") for key in ("evaluate", "predict", "task", "images"))
    if images and not predict:
        raise UserError(f"unrecognized arguments: {' '.join(images)} (flags begin with --, images need --predict)")
    options = validate(Options, {key: given.pop(key) for key in Options.model_fields if key in given})
    if options.resume and options.overwrite:
        raise UserError("--resume and --overwrite exclude each other")
    data_from = read_benchmark(given.pop("data_config")) if evaluate and "data_config" in given else None
    if (evaluate or predict) and given:
        raise UserError(f"--{next(iter(given))}: expected no settings here: the run has its own")
    if len({bool(predict), bool(task), bool(images)}) > 1:
        raise UserError("--predict needs --task NAME_OR_ID and image files, and --task needs --predict RUN_DIR")
    if evaluate or predict:
        return Use(run_dir=evaluate or predict, options=options, data_from=data_from, task=task, images=tuple(images))
    return Grow(settings=_settings(given), options=options)


def _settings(given: dict[str, Any]) -> Settings:
    """The settings: those given as flags, else those of the file that ``--config`` names, else the defaults."""
    values = dict(read_settings(given.pop("config"))) if "config" in given else {}
    if path := given.pop("data_config", None if "benchmark" in values else Path("config/dataset/coarse_cifar100.yaml")):
        values |= {"benchmark": read_benchmark(path), "benchmark_name": path.stem}
    if path := given.pop("hp_config", None if "recipe" in values else Path("config/hyperparam/wrn.yaml")):
        values |= {"recipe": read_file(Recipe, path), "recipe_name": path.stem, "changed": ()}
    task_ids = given.pop("task_ids", ["all"])
    if task_ids != ["all"]:
        values["benchmark"] = values["benchmark"].select(task_ids)
        values["benchmark_name"] += "-t" + ("_".join(task_ids) if len(task_ids) <= 8 else f"{len(task_ids)}tasks")
    before = values["recipe"].model_dump()
    recipe = validate(Recipe, before | {key: read_value(given.pop(key)) for key in before if key in given})
    changed = [key for key, value in recipe if key in values["changed"] or value != before[key]]
    return validate(Settings, values | {"recipe": recipe, "changed": changed} | given)


def exit_status(program: str, function: Callable[[], int | None]) -> int:
    """Run a program's function; an error that the user can fix is a line on the screen. Returns the exit status."""
    open_screens()
    try:
        return function() or 0
    except UserError as error:
        write_line(f"{program}: {error}", sys.stderr)
        return error.exit_status


def command_line(argv: Sequence[str], program: str = "modelzoo.py") -> str:
    """The command as it was given, which names the program as it is found from the current folder."""
    return shlex.join(["python", program if Path.cwd() == ROOT else str(ROOT / program), *argv])


def command_to_resume(argv: Sequence[str]) -> str:
    """The command line that goes on with this one's run."""
    rest = [word for word in argv if word not in ("--overwrite", "--resume")]
    return command_line([*rest, "--resume"])
