"""The run folder: what lies in it, who may write it, how it is read and written, and how a run goes on.

``rounds.jsonl`` grows by one line per round; the state records its length, and a resumed run cuts it to that length.
Except for the log and the event files, all other files are written whole or not at all.
"""

import contextlib
import json
import os
import socket
import time
from collections import ChainMap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np
from pydantic import TypeAdapter

from utils import checkpoint, files, program, rounds
from utils.config import FORMAT, Options, Settings, read_settings, settings_to_yaml, validate
from utils.errors import UserError, in_one_line, short
from utils.events import EventFiles
from utils.finished_run import FinishedRun, finish
from utils.logger import Screen
from utils.rounds import LearnerInfo, Record, Round, ZooInfo
from utils.yaml_files import read_yaml

if TYPE_CHECKING:
    from utils.method import Method

WRITTEN = (  # all that a run writes, and so all that --overwrite deletes
    "env.json log.txt rounds.jsonl accuracy.csv accuracy.png run.json tensorboard/events.out.tfevents.* "
    "zoo/zoo.json zoo/state.pt zoo/learner_*.pt checkpoint/state_*.pt"
).split()
MARKS = {"config.yaml": {"benchmark", "recipe"}, "run.json": {"settings", "accuracy"}}  # keys that tell a run folder
FIGURE_EVERY_SEC = 300  # while the run goes on; drawing takes half a second


def is_complete(run_dir: Path) -> bool:
    """Whether the run is complete: ``run.json`` is written last."""
    return (run_dir / "run.json").exists()


def is_locked(run_dir: Path) -> bool:
    """Whether another process is writing the run folder."""
    try:
        if (run_dir / ".lock").exists():
            filelock.FileLock(run_dir / ".lock", timeout=0).acquire().lock.release()
    except OSError as error:  # another one than Timeout: the folder may only be read
        return isinstance(error, filelock.Timeout)
    return False


def lock_holder(run_dir: Path) -> str:
    """The process that holds the lock of a run folder, and how to free the folder if it has died, in words."""
    lock, holder = run_dir / ".lock", "not known"
    with contextlib.suppress(OSError, ValueError):  # free by now, or an older version's, which noted nothing
        pid, host = lock.read_text(encoding="utf-8").split()[:2]
        holder = f"{pid} on {host}, since {time.ctime(lock.stat().st_mtime)}"
    return f"process {holder}; if it has died, delete {lock}"


def learner_path(run_dir: Path, round_id: int) -> Path:
    """The file with the weights of a round's learner."""
    return run_dir / "zoo" / f"learner_{round_id:03d}.pt"


def settings_of(run_dir: Path) -> Settings:
    """The settings of a run folder. Raises UserError if neither of its two files of this version has them."""
    if is_complete(run_dir) and not (run_dir / "config.yaml").exists():
        return read_finished_run(run_dir).settings
    try:
        return read_settings(run_dir / "config.yaml")
    except UserError as error:
        raise UserError(f"{run_dir}: not a run folder of this version ({error})") from error


def read_finished_run(run_dir: Path) -> FinishedRun:
    """The ``run.json`` of a complete run. Raises UserError if the run is not complete, or the file is damaged."""
    path = run_dir / "run.json"
    content = _read_json(path, "what is written at the end of a run")
    if isinstance(content, dict) and content.get("format") != FORMAT:
        got = f"got {short(content.get('format', 'none'))}: another version wrote this run"
        raise UserError(f"{path}: format: expected {FORMAT}, {got}")
    return validate(FinishedRun, content, path)


def read_zoo(run_dir: Path) -> ZooInfo:
    """The description of a run's zoo. Raises UserError if it is missing or damaged."""
    path = run_dir / "zoo" / "zoo.json"
    if is_complete(run_dir) and not path.parent.exists():
        raise UserError(f"{run_dir}: a recorded run, which is run.json alone: its learners are not there")
    return validate(ZooInfo, _read_json(path, "the description of a zoo"), path)


def read_env(run_dir: Path) -> list[dict[str, Any]]:
    """The invocations that started and resumed a run, as their versions wrote them; empty if it cannot be read."""
    try:
        return TypeAdapter(list[dict[str, Any]]).validate_json((run_dir / "env.json").read_bytes())
    except (OSError, ValueError):
        return []


def read_rounds(run_dir: Path, num_bytes: int | None = None) -> list[Record]:
    """The lines of ``rounds.jsonl``, or of its first bytes. Raises UserError if one is missing or damaged."""
    path = run_dir / "rounds.jsonl"
    try:
        content = path.read_bytes()[:num_bytes]
        rounds = [Record.model_validate_json(line) for line in content.splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: missing or damaged ({in_one_line(error)})") from error
    if len(content) < (num_bytes or 0) or [record.round for record in rounds] != list(range(len(rounds))):
        raise UserError(f"{path}: rounds that the run's state counts are missing; --overwrite starts anew")
    return rounds


def _read_json(path: Path, expected: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected {expected}, but it is missing or damaged ({in_one_line(error)})") from error


class RunFolder:
    """The folder of one run. ``with`` locks and checks it: it raises UserError, or sets the attributes below.

    A folder that is refused, or whose run does not begin, is left as it was.

    Attributes:
        settings: The settings to grow with.
        complete: Whether there is nothing left to do.
    """

    def __init__(self, settings: Settings, options: Options, screen: Screen):
        self.settings, self.options, self.screen = settings, options, screen
        self.path = options.run_dir or Path("runs") / settings.run_name
        self.complete = False
        self.state = checkpoint.State()
        self.rounds: list[Record] = []
        self.events = EventFiles(self.path / "tensorboard", settings, screen)
        self._lock = filelock.FileLock(self.path / ".lock", timeout=0)
        self._made: list[Path] = []  # to be removed again if the run does not begin
        self._warnings: list[str] = []
        self._saved = time.monotonic()
        self._drawn = float("-inf")

    def __enter__(self) -> "RunFolder":
        try:
            problem = self._hold()
            self._look()
            if problem and not self.complete:
                raise UserError(f"{self.path}: the folder cannot be written or locked ({problem.strerror})")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for path in self._made:  # the lock while it is still held, then the folders, if they are empty
            with contextlib.suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        self._lock.release()

    def _hold(self) -> OSError | None:
        """Make the folder if it is missing, and lock it; returns why it cannot be written or locked, if so.

        A lock ends with the process that holds it. Where the file system has no such locks (ENOSYS), filelock takes the
        file itself for the lock: one that a killed process left behind ends when another process of its host looks.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path}: a file, not a folder")
        self._made = [path for path in (self.path / ".lock", self.path, *self.path.parents) if not path.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            if not isinstance(self._lock, filelock.SoftFileLock):  # which notes the process itself
                (self.path / ".lock").write_text(f"{os.getpid()}\n{socket.gethostname()}\n", encoding="utf-8")
        except filelock.Timeout as error:
            self._made.clear()  # that process may just have made the lock
            raise UserError(f"{self.path}: another process is writing this folder: {lock_holder(self.path)}") from error
        except OSError as error:
            return error
        return None

    def _look(self) -> None:
        """See what the folder holds. Raises UserError if the command may not use it."""
        inside = set(self.path.iterdir()) if self.path.exists() else set()
        if inside <= {self.path / ".lock", *self.path.glob(".*.part")}:
            return
        if self.options.overwrite:
            marked = {self.path / name: keys for name, keys in MARKS.items() if (self.path / name).exists()}
            if not any(keys <= read_yaml(path).keys() for path, keys in marked.items()):
                raise UserError(f"{self.path}: not a run folder, so nothing in it is deleted")
            return
        if not self.options.resume:
            raise UserError(
                f"{self.path}: the folder is not empty; "
                "--resume goes on with the run, --overwrite starts it anew, --run_dir takes another folder"
            )
        old = settings_of(self.path)
        self.complete = is_complete(self.path) and not old.differences(self.settings)
        if self.complete:
            if self.options.tensorboard:
                self.events.begin(read_rounds(self.path))
            return
        if is_complete(self.path):  # before a word on its state, which may be missing
            checkpoint.check_settings(old, self.settings, num_rounds_done=old.total_rounds)
        self.state, self._warnings = checkpoint.newest_state(self.path)
        if not self.state.method and (is_complete(self.path) or learner_path(self.path, 1).exists()):
            lost = self.path / "zoo" / "state.pt"
            raise UserError(f"{lost}: missing, so that the run cannot go on; --overwrite starts it anew")
        if self.state.rounds_bytes:
            self.rounds = read_rounds(self.path, self.state.rounds_bytes)
        checkpoint.check_settings(old, self.settings, num_rounds_done=len(self.rounds))
        for path in (learner_path(self.path, record.round) for record in self.rounds):
            if not path.exists():
                raise UserError(f"{path}: missing, so that the run cannot go on")

    def begin(self, method: "Method", zoo: ZooInfo, invocation: dict[str, Any]) -> None:
        """Take up the run: load the saved state into the method, and make the files agree with it.

        Args:
            method: The method that grows the zoo; it gets its state back.
            zoo: The zoo without its learners.
            invocation: How this process was started, an entry of ``env.json``.

        Raises:
            UserError: The data are not those that the run began with, or a file cannot be written.
        """
        before = ZooInfo.model_validate(self.state.zoo) if self.state.zoo else zoo
        if changed := checkpoint.first_change(before.tasks, zoo.tasks):
            raise UserError(f"{self.path}: {changed}")
        self._made.clear()
        if self.options.overwrite:
            self._delete(*WRITTEN)  # config.yaml is written anew later
        for folder in (self.path, self.path / "zoo"):
            files.remove_parts(folder)
        (self.path / "run.json").unlink(missing_ok=True)  # it would say that the run is complete
        files.write_whole(self.path / "config.yaml", settings_to_yaml(self.settings).encode())  # it marks the folder
        self.screen.log = self.path / "log.txt"
        for warning in self._warnings:
            self.screen.warn(warning)
        self._note_invocation(invocation)
        (self.path / "zoo").mkdir(exist_ok=True)
        (self.path / "rounds.jsonl").touch()
        os.truncate(self.path / "rounds.jsonl", self.state.rounds_bytes)
        self._write_zoo(zoo.model_copy(update={"learners": before.learners}))
        if self.state.method:
            method.load_state_dict(self.state.method)
        if self.options.tensorboard or any(self.path.glob("tensorboard/events.out.tfevents.*")):  # not to fall behind
            self.events.begin(self.rounds)
        comes_next = f"round {method.round_id} of {self.settings.total_rounds} comes next"
        threads = f"{invocation['threads']} thread{'s' if invocation['threads'] > 1 else ''}"
        self.screen.inform(f"{comes_next}, on {invocation['device']} with {threads}, in {self.path}")
        self.watch = program.Stopwatch(self.state.seconds)
        self.watch.lap("start")

    def _delete(self, *patterns: str) -> None:
        """Delete what a run wrote, by name, and nothing else."""
        for path in (path for pattern in patterns for path in self.path.glob(pattern)):
            path.unlink()

    def _note_invocation(self, now: dict[str, Any]) -> None:
        """Add to ``env.json``; warn if the run goes on with something else than before."""
        path, entries = self.path / "env.json", read_env(self.path)
        before = ChainMap(*reversed(entries))  # each key as it was last; another version may have had other keys
        changed = [key for key in now if key != "command" and before.get(key, now[key]) != now[key]]
        if changed:
            how = "will differ, as the precision changes" if "precision" in changed else "may differ in the last digits"
            what = "; ".join(f"{key} {before[key]}, now {now[key]}" for key in changed)
            self.screen.warn(f"the run went on so far with {what}: results {how}")
        if entries or not path.exists():
            files.write_json(path, [*entries, now])
        else:
            self.screen.warn(f"{path}: damaged; it is kept as it is, and this invocation is not noted in it")

    def keep(self, event: Round | str, method: "Method") -> None:
        """Keep what the method yielded: a round, or the phase in which a minibatch was done.

        Raises:
            UserError: A file cannot be written, or the method's state is not finite.
        """
        if isinstance(event, Round):
            self._keep_round(event, method)
            return
        if method.training:
            self.events.add_losses(method.round_id, method.training.epoch_loss)
        self.watch.lap(event)
        if time.monotonic() - self._saved >= self.options.checkpoint_every_sec:
            self.save(method)

    def _keep_round(self, done: Round, method: "Method") -> None:
        """Keep a round's learner and record, then the state; then draw, if it is time to, and show a line."""
        self.watch.lap("prediction")
        seconds = {phase: round(sec, 3) for phase, sec in self.watch.seconds.items()}
        record = done.record.model_copy(update={"seconds": seconds})
        self._keep_learner(done)
        files.append(self.path / "rounds.jsonl", record.model_dump_json().encode() + b"\n")
        self.rounds.append(record)
        self.events.add_round(record)
        self.watch.seconds = {}
        self.save(method)
        if time.monotonic() - self._drawn >= FIGURE_EVERY_SEC:
            self._write_accuracy()
        self.screen.say(rounds.round_line(record, self.settings))
        self.watch.lap("writing")  # it counts to the next round

    def _keep_learner(self, done: Round) -> None:
        path = learner_path(self.path, done.record.round)
        weights = {key: value.cpu() for key, value in done.learner.state_dict().items()}
        files.write_whole(path, checkpoint.to_bytes(weights))
        about = LearnerInfo(
            round=done.record.round,
            file=path.name,
            tasks=list(done.votes),
            votes=done.votes,
            num_parameters=done.record.num_parameters,
        )
        before = () if done.record.replaces else self.zoo.learners
        self._write_zoo(self.zoo.model_copy(update={"learners": (*before, about)}))

    def _write_zoo(self, zoo: ZooInfo) -> None:
        self.zoo = zoo
        files.write_json(self.path / "zoo" / "zoo.json", zoo.model_dump())

    def _state(self, method: "Method") -> checkpoint.State:
        return checkpoint.State(
            method=method.state_dict(),
            zoo=self.zoo.model_dump(),
            rounds_bytes=(self.path / "rounds.jsonl").stat().st_size,
            seconds=self.watch.seconds,
            elapsed_sec=self.state.elapsed_sec + time.perf_counter() - program.BEGAN,
            peak_mem_gb=max(self.state.peak_mem_gb, program.peak_mem_gb()),
        )

    def save(self, method: "Method") -> None:
        """Save the state. Raises UserError if it cannot be written, or is not finite."""
        checkpoint.save_next_state(self.path, self._state(method))
        self._saved = time.monotonic()

    def _write_accuracy(self) -> None:
        """Write R as a table and as a figure; whatever goes wrong with the figure is a warning."""
        self._drawn = time.monotonic()
        names, continual = self.settings.benchmark.names, self.settings.continual
        accuracy = rounds.accuracy_rows(self.rounds, len(names))
        lines = [["round", *(f"task_{task_id}" for task_id in range(len(names)))]]
        for round_id, row in enumerate(accuracy):
            lines.append([str(round_id), *("" if value is None else str(value) for value in row)])
        files.write_whole(self.path / "accuracy.csv", "".join(",".join(line) + "\n" for line in lines).encode())
        try:
            from utils.plot import draw_accuracy, to_image  # here, since matplotlib takes half a second to import

            matrix = np.array(accuracy, dtype=float)
            figure = draw_accuracy(matrix, names, continual=continual, scored=self.settings.scored_on)
            files.write_whole(self.path / "accuracy.png", to_image(figure))
        except Exception as error:  # drawing runs other people's code on the user's fonts
            self.screen.warn(f"{self.path / 'accuracy.png'}: could not be drawn ({in_one_line(error)})")

    def finish(self, method: "Method") -> None:
        """Write what stays of a complete run, ``run.json`` last. Raises UserError if a file cannot be written."""
        self._write_accuracy()
        state = self._state(method)
        checkpoint.save_state(self.path / "zoo" / "state.pt", state)
        used = {"elapsed_sec": state.elapsed_sec, "peak_mem_gb": state.peak_mem_gb}
        run = finish(self.rounds, self.settings, self.zoo, read_env(self.path), **used)
        with contextlib.suppress(OSError):  # before run.json, which says: nothing of the run is left to do
            self._delete("checkpoint/state_*.pt", "checkpoint/.state_*.part")
            (self.path / "checkpoint").rmdir()
        files.write_whole(self.path / "run.json", run.to_json().encode())
