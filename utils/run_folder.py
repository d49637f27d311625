"""One run's folder: whether it may be used, what is written to it as the zoo grows, and going on with it later."""

import contextlib
import copy
import math
import shlex
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import filelock
import torch

from utils import logger
from utils.checkpoint import Checkpoints, RunFolderError, learner_path, save_learner, write_json
from utils.config import ConfigError, Grow, Settings, read_settings

FIGURE_EVERY_SEC = 300  # while the run goes on, from its first round; drawing takes half a second


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the run folder, made if missing, against other processes. A lock ends with the process that held it.

    Raises:
        RunFolderError: another process has it, or it cannot be made.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(run_dir / ".lock", timeout=0)
        lock.acquire()
    except filelock.Timeout as error:
        raise RunFolderError(f"{run_dir}: another process is writing this run folder") from error
    except OSError as error:
        raise RunFolderError(f"{run_dir}: expected a folder that can be written ({error.strerror})") from error
    try:
        yield
    finally:
        lock.release()


def check_free(run_dir: Path) -> None:
    """Raise RunFolderError if another process is writing the run folder; writes nothing where there is none."""
    if not (run_dir / ".lock").exists():
        return
    try:
        filelock.FileLock(run_dir / ".lock", timeout=0).acquire().lock.release()
    except filelock.Timeout as error:
        raise RunFolderError(f"{run_dir}: another process is writing this run folder") from error
    except OSError:  # a folder that may only be read: ``locked`` refuses it, should it come to writing
        return


def is_empty(run_dir: Path) -> bool:
    """Whether a folder is missing or holds nothing (a lock or a half-written file does not count)."""
    if run_dir.exists() and not run_dir.is_dir():
        raise RunFolderError(f"{run_dir}: expected a folder, got a file")
    return not run_dir.exists() or all(path.name.startswith(".") for path in run_dir.iterdir())


def settings_of(run_dir: Path) -> Settings:
    """The settings a run folder was made with. Raises RunFolderError: it holds no ``config.yaml`` of ours."""
    try:
        return read_settings(run_dir / "config.yaml")
    except ConfigError as error:
        raise RunFolderError(f"{run_dir}: expected a run folder, got something else ({error})") from error


def throw_away(run_dir: Path) -> None:
    """Delete what a run folder holds. Raises RunFolderError: it is not ours to delete."""
    settings_of(run_dir)
    last = run_dir / "config.yaml"  # it marks the folder as ours until all else is gone
    for path in sorted(run_dir.iterdir(), key=lambda path: path == last):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != ".lock":
            path.unlink()


def _extent(settings: Settings) -> tuple[int, int]:
    """What a run grows in: the number of tasks, and of rounds."""
    return len(settings.benchmark.tasks), settings.num_rounds


def resumed_settings(old: Settings, command: Grow, *, num_rounds_done: int, began_with: tuple[int, int]) -> Settings:
    """The settings to go on with: the run's own, or those of a finished continual run that grows.

    Args:
        old: the run's own.
        command: with the settings asked for; where the run grows, or has grown, a B that was not given as a number is
            the run's: the same command starts a growth, and goes on with it.
        num_rounds_done: rounds in the run's newest state.
        began_with: number of tasks and of rounds as the run began, before it grew.

    Raises:
        RunFolderError: the settings differ otherwise; it names them.
    """
    asked = command.settings
    grows = old.continual and asked.continual and _extent(asked) != began_with
    if grows and not command.tasks_per_round_is_given:
        asked = asked.model_copy(update={"tasks_per_round": old.tasks_per_round})
    differing = _differences(old, asked)
    if not differing:
        return old
    growing = {"benchmark.tasks", "benchmark.task_names", "num_rounds"}
    if (
        old.continual
        and num_rounds_done == old.num_rounds
        and differing.keys() <= growing
        and asked.num_rounds >= old.num_rounds
        and asked.benchmark.tasks[: len(old.benchmark.tasks)] == old.benchmark.tasks
        and asked.benchmark.names[: len(old.benchmark.names)] == old.benchmark.names
    ):
        return asked
    listed = "; ".join(f"{key} {now} (the run has {before})" for key, (before, now) in differing.items())
    raise RunFolderError(f"--resume: expected the settings of the run, got {listed}")


def _differences(old: Settings, new: Settings) -> dict[str, tuple[str, str]]:
    def flat(settings: Settings) -> dict[str, Any]:
        values = settings.computed
        parts = {f"{part}.{key}": value for part in ("benchmark", "recipe") for key, value in values.pop(part).items()}
        return values | parts

    def short(value: Any) -> str:
        text = str(value)
        return text if len(text) <= 40 else f"{text[:40]}..."

    before, now = flat(old), flat(new)
    return {key: (short(before[key]), short(now[key])) for key in now if before[key] != now[key]}


def _check_tasks(run_dir: Path, *, began_with: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> None:
    """Raise RunFolderError where the data of a task have changed since a run began; tasks may have been appended."""
    for before, after in zip(began_with, now, strict=False):
        where = f"{run_dir}: task {before['task_id']} ({before['name']}): expected the data that the run began with"
        if before["classes"] != after["classes"]:
            raise RunFolderError(f"{where}, classes {', '.join(before['classes'])}; got {', '.join(after['classes'])}")
        if before != after:
            raise RunFolderError(f"{where}, got other images or another number of them")


class StopSignal:
    """SIGINT and SIGTERM. Until ``defer`` the first ends the program; after it, it is noted, and the second ends it."""

    def __init__(self) -> None:
        self.received = False
        self.deferred = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    def defer(self) -> None:
        """From now on, leave it to the caller to look at ``received`` and stop."""
        self.deferred = True

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        if not self.deferred:
            raise KeyboardInterrupt


class Interrupted(Exception):
    """The run stopped at a signal, its state saved."""


START: dict[str, Any] = {
    "records": [],
    "learners": [],
    "averages": {},
    "tasks": [],
    "training": None,
    "seconds": {},
    "elapsed_sec": 0.0,
}


@dataclass(frozen=True)
class Opening:
    """What a run folder allows, found without writing to it.

    Attributes:
        settings: to go on with; those asked for, but for the B of a run that grows.
        state: to go on from.
        warnings: of states that were passed over.
        replaces: whether what the folder holds is to be thrown away.
        complete: whether there is nothing left to do.
    """

    settings: Settings
    state: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(START))
    warnings: Sequence[str] = ()
    replaces: bool = False
    complete: bool = False


def examine(run_dir: Path, command: Grow) -> Opening:
    """See whether the command may use the folder. Raises RunFolderError: it may not."""
    if is_empty(run_dir):
        return Opening(command.settings)
    if not (command.options.resume or command.options.overwrite):
        raise RunFolderError(
            f"{run_dir}: expected a new folder, got one with files in it; "
            "--resume goes on with the run, --overwrite starts it anew, --run_dir takes another folder"
        )
    old = settings_of(run_dir)
    if command.options.overwrite:
        return Opening(command.settings, replaces=True)
    state, warnings = Checkpoints(run_dir).load()
    if state is None:
        _check_just_begun(run_dir)
        state = copy.deepcopy(START)
    num_done = len(state["records"])
    began_with = state.setdefault("began_with", _extent(old))
    settings = resumed_settings(old, command, num_rounds_done=num_done, began_with=began_with)
    for round_id in range(num_done):
        if not learner_path(run_dir, round_id).exists():
            raise RunFolderError(f"{learner_path(run_dir, round_id)}: missing, so that the run cannot go on")
    complete = settings.num_rounds == num_done and (run_dir / "summary.json").exists()
    return Opening(settings, state, warnings, complete=complete)


def _check_just_begun(run_dir: Path) -> None:
    """Raise RunFolderError where a run without a state has come further than its first learner: its states are lost."""
    later = set((run_dir / "zoo").glob("learner_*.pt")) - {learner_path(run_dir, 0)}
    if later or (run_dir / "summary.json").exists():
        raise RunFolderError(
            f"{Checkpoints(run_dir).final}: missing, so that the run cannot go on; --overwrite starts it anew"
        )


def command_to_resume(argv: Sequence[str]) -> str:
    """The command line that goes on with this one's run."""
    rest = [word for word in argv if word not in ("--overwrite", "--resume")]
    return shlex.join(["python", "modelzoo.py", *rest, "--resume"])


class RunFolder:
    """The folder of a run that goes on: takes what the method yields, and keeps it."""

    def __init__(self, path: Path, opening: Opening, *, zoo: dict[str, Any], screen: logger.Screen, every_sec: float):
        """Take up the run; writes nothing yet.

        Args:
            path: the folder, locked by the caller.
            opening: what ``examine`` found.
            zoo: what ``zoo.json`` says beside the learners.
            screen: for warnings and the lines of the rounds.
            every_sec: training that may be lost.

        Raises:
            RunFolderError: the data are not those that the run began with.
        """
        state = opening.state
        _check_tasks(path, began_with=state["tasks"], now=zoo["tasks"])
        self.path = path
        self.opening = opening
        self.settings = opening.settings
        self.zoo = zoo
        self.screen = screen
        self.every_sec = every_sec
        self.records: list[logger.Record] = state["records"]
        self.learners: list[dict[str, Any]] = state["learners"]
        self.averages: dict[int, dict[str, Any]] = state["averages"]
        self.training: dict[str, Any] | None = state["training"]
        self.peak_mem_gb: float = state.get("peak_mem_gb", 0.0)
        self.elapsed_sec: float = state["elapsed_sec"]
        self.began_with: tuple[int, int] = state.get("began_with", _extent(self.settings))
        self.checkpoints = Checkpoints(path)
        self.watch = logger.Stopwatch(state["seconds"], since=logger.BEGAN)
        self._saved = time.monotonic()
        self._drawn = -math.inf

    def begin(self, argv: Sequence[str], *, device: str) -> None:
        """Write what is known before the first event, and anew what the state says of the rounds before.

        Args:
            argv: the command line, without the program's name.
            device: where the run goes on, in words.
        """
        if self.opening.replaces:
            throw_away(self.path)
        warnings = [*self.opening.warnings, *self._other_machine(device)]
        (self.path / "summary.json").unlink(missing_ok=True)  # it says that a run is complete: this one is not
        logger.write_start(self.path, self.settings, argv=argv, device=device)
        (self.path / "zoo").mkdir(exist_ok=True)
        self._write_rounds()
        for warning in warnings:
            self.screen.warn(warning)
        self.watch.lap("start")

    def _other_machine(self, device: str) -> list[str]:
        before = logger.read_env(self.path).get("device", device)
        return [f"the run began on {before} and goes on on {device}: bits may differ"] if before != device else []

    def step(self, round_id: int, training: Any, averages: dict[int, Any], *, save_now: bool) -> None:
        """After a minibatch: save the state if it is time to, or asked for."""
        self.watch.lap("training" if training.epoch < training.num_epochs else "prediction")
        if save_now or time.monotonic() - self._saved >= self.every_sec:
            self.training = training.state_dict()
            self._save(averages, round_id, training.num_done)

    def round(
        self, record: logger.Record, learner: torch.nn.Module, votes: dict[int, float], averages: dict[int, Any]
    ) -> None:
        """After a round: keep its learner, then the state, then all that is made from the state."""
        self.watch.lap("prediction")
        round_id = record["round"]
        save_learner(self.path, round_id, {key: value.cpu() for key, value in learner.state_dict().items()})
        self.learners.append(
            {
                "round": round_id,
                "file": learner_path(self.path, round_id).name,
                "tasks": record["tasks"],
                "votes": {str(task_id): vote for task_id, vote in votes.items()},
                "num_parameters": sum(parameter.numel() for parameter in learner.parameters()),
            }
        )
        self.records.append(record | {"seconds": {phase: round(sec, 3) for phase, sec in self.watch.seconds.items()}})
        self.training = None
        self.watch = logger.Stopwatch()
        self._save(averages, round_id + 1, 0)
        self._write_rounds()
        if time.monotonic() - self._drawn >= FIGURE_EVERY_SEC:
            logger.write_figure(self.path, self.records, self.settings)
            self._drawn = time.monotonic()
        self.screen.say(logger.round_line(self.records[-1], self.settings.num_rounds))
        self.watch.lap("writing")  # which the next round's seconds tell

    def finish(self, averages: dict[int, Any]) -> dict[str, Any]:
        """Write what stays of a complete run, the summary last; gives the summary."""
        logger.write_figure(self.path, self.records, self.settings)
        state = self._state(averages)
        self.checkpoints.finish(state)
        summary = logger.make_summary(
            self.records, self.settings, elapsed_sec=state["elapsed_sec"], peak_gb=state["peak_mem_gb"]
        )
        self.checkpoints.clear()  # before the summary, whose presence means that nothing is left to do
        write_json(self.path / "summary.json", summary)
        return summary

    def _state(self, averages: dict[int, Any]) -> dict[str, Any]:
        self.peak_mem_gb = max(self.peak_mem_gb, logger.peak_mem_gb())
        return {
            "records": self.records,
            "learners": self.learners,
            "averages": {task_id: vars(average) for task_id, average in averages.items()},
            "tasks": self.zoo["tasks"],
            "began_with": self.began_with,
            "training": self.training,
            "seconds": self.watch.seconds,
            "elapsed_sec": self.elapsed_sec + logger.process_sec(),
            "peak_mem_gb": self.peak_mem_gb,
        }

    def _save(self, averages: dict[int, Any], round_id: int, minibatch: int) -> None:
        self.checkpoints.save(self._state(averages), round_id=round_id, minibatch=minibatch)
        self._saved = time.monotonic()

    def _write_rounds(self) -> None:
        logger.write_rounds(self.path, self.records, len(self.settings.benchmark.tasks))
        write_json(self.path / "zoo" / "zoo.json", self.zoo | {"learners": self.learners})
