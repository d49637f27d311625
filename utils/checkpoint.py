"""Stopping and resuming: the state of a run on the disk, and whether settings and data allow the run to go on."""

import hashlib
import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from utils.config import METHODS, Benchmark, Settings
from utils.errors import UserError, in_one_line, short
from utils.files import write_whole
from utils.rounds import TaskInfo

DIGEST_BYTES = 32
STATES_KEPT = 2  # the newest, and the one before it in case the newest is damaged


@dataclass
class State:
    """What a run needs, beside its settings, to go on.

    Attributes:
        method: The state of the method.
        zoo: The description of the zoo, as plain values of ZooInfo.
        rounds_bytes: The length of ``rounds.jsonl``.
        seconds: The seconds by phase of the current round.
        elapsed_sec: How long the run has taken.
        peak_mem_gb: The most memory that it held.
    """

    method: dict[str, Any] = field(default_factory=dict)
    zoo: dict[str, Any] = field(default_factory=dict)
    rounds_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    elapsed_sec: float = 0.0
    peak_mem_gb: float = 0.0


def save_state(path: Path, state: State) -> None:
    """Write a state after its digest, which shows whether it is damaged. Raises UserError if it cannot be written."""
    content = to_bytes(vars(state))
    write_whole(path, hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest() + content)


def load_state(path: Path) -> State:
    """Read what ``save_state`` wrote; runs no code from the file. Raises UserError if the file is damaged."""
    import torch  # imported here: it takes seconds, and suites and reports, which only read, do not need it

    try:
        content = path.read_bytes()
        head, body = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        if hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest() != head:
            raise UserError(f"{path}: damaged, its digest does not fit")
        return State(**torch.load(io.BytesIO(body), weights_only=True, map_location="cpu"))
    except (OSError, RuntimeError, ValueError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: could not be read ({in_one_line(error)})") from error


def to_bytes(values: dict[str, Any]) -> bytes:
    """Tensors and plain values as the content of a file, as torch itself would write it."""
    import torch

    buffer = io.BytesIO()
    torch.save(values, buffer)
    return buffer.getvalue()


def save_next_state(run_dir: Path, state: State) -> None:
    """Save a state in ``checkpoint/``, under the next number, and delete all but the newest two. Raises UserError."""
    folder = run_dir / "checkpoint"
    folder.mkdir(exist_ok=True)
    states = _states(folder)
    save_state(folder / f"state_{max(states, default=-1) + 1:06d}.pt", state)
    for old in list(states.values())[STATES_KEPT - 1 :]:
        old.unlink()


def _states(folder: Path) -> dict[int, Path]:
    """The states in ``checkpoint/`` by number, the newest first."""
    states = {int(path.stem[6:]): path for path in folder.glob("state_*.pt") if path.stem[6:].isdecimal()}
    return dict(sorted(states.items(), reverse=True))


def newest_state(run_dir: Path) -> tuple[State, list[str]]:
    """The newest state that is whole, ``State()`` if there is none, and a warning for each damaged one passed over.

    Raises:
        UserError: There are states, but all are damaged.
    """
    problems: list[str] = []
    for path in [*_states(run_dir / "checkpoint").values(), *run_dir.glob("zoo/state.pt")]:  # a finished run's is last
        try:
            return load_state(path), [f"{problem}; going on from the state before it" for problem in problems]
        except UserError as damaged:
            problems.append(str(damaged))
    if problems:
        raise UserError(f"{problems[-1]}, and no other state is left; --overwrite starts anew")
    return State(), []


def check_settings(old: Settings, asked: Settings, *, num_rounds_done: int) -> None:
    """Raise UserError unless the settings asked for are the run's own, or let a finished continual run grow."""
    differing = old.differences(asked)
    grows = (
        old.continual
        and num_rounds_done == old.total_rounds
        and differing.keys() <= {"benchmark.tasks", "benchmark.task_names", "num_rounds", "tasks_per_round"}
        and (METHODS[old.method].may_grow or "benchmark.tasks" not in differing)
        and asked.total_rounds >= old.total_rounds
        and asked.benchmark.tasks[: len(old.benchmark.tasks)] == old.benchmark.tasks
        and asked.benchmark.names[: len(old.benchmark.names)] == old.benchmark.names
        # B may differ if it made no difference so far, as `all` does with more tasks.
        and min(old.max_per_round, old.total_rounds) == min(asked.max_per_round, old.total_rounds)
    )
    if differing and not grows:
        listed = "; ".join(f"{key} {short(now)} (the run has {short(had)})" for key, (had, now) in differing.items())
        raise UserError(f"--resume: not the settings of the run: {listed}")


def with_data_of(settings: Settings, other: Benchmark | None) -> Settings:
    """A run's settings, with ``root`` from another benchmark if one is given. Raises UserError if that does not fit."""
    if other is None:
        return settings
    if (settings.benchmark.dataset, settings.benchmark.root is None) != (other.dataset, other.root is None):
        expected = f"dataset: {settings.benchmark.dataset}" + (", and a root" if settings.benchmark.root else "")
        raise UserError(f"--data_config: expected a benchmark with {expected}, as the run has, got {other.dataset}")
    return settings.model_copy(update={"benchmark": settings.benchmark.model_copy(update={"root": other.root})})


def first_change(before: Sequence[TaskInfo], after: Sequence[TaskInfo]) -> str | None:
    """What is different in the first task whose data have changed; None if the data are the same.

    Args:
        before: The tasks of a run.
        after: The tasks now, perhaps with more at the end.
    """
    for old, new in zip(before, after, strict=False):
        where = f"task {old.task_id} ({old.name}): not the data that the run began with"
        if old.classes != new.classes:
            return f"{where}: classes {', '.join(new.classes)}; the run has {', '.join(old.classes)}"
        if old != new:
            return f"{where}: other images or labels, or another number of them"
    return None
