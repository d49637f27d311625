"""What a run says: the files of its folder that are there to be read, and the screen."""

import contextlib
import csv
import io
import itertools
import json
import math
import platform
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from utils.checkpoint import RunFolderError, write_json, write_whole
from utils.config import Settings, settings_to_yaml
from utils.metrics import summarise

ROOT = Path(__file__).resolve().parent.parent
METRIC_NAMES = {
    "average_accuracy": "average accuracy",
    "learning_accuracy": "learning accuracy (Riemer et al. 2019)",
    "forgetting": "forgetting (the authors')",
    "forgetting_chaudhry": "forgetting (Chaudhry et al. 2018)",
    "backward_transfer": "backward transfer (Lopez-Paz and Ranzato 2017)",
}

BEGAN = time.perf_counter()  # of the program, its first imports apart

Record = dict[str, Any]  # a round, as in rounds.jsonl


class Screen:
    """Results on stdout, warnings and a progress bar on stderr, and all that was said in ``log.txt``."""

    def __init__(self) -> None:
        self.log: Path | None = None
        self.bar: tqdm | None = None
        self.before_round: list[int] = []

    def say(self, line: str) -> None:
        """A result."""
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()
        self._note(line)

    def warn(self, line: str) -> None:
        """A warning."""
        tqdm.write(f"warning: {line}", file=sys.stderr)
        self._note(f"warning: {line}")

    def fail(self, line: str) -> None:
        """Why the run ends here."""
        self.stop_bar()
        print(f"modelzoo.py: {line}", file=sys.stderr)
        with contextlib.suppress(RunFolderError):  # what went wrong may be the log's own disk
            self._note(line)

    def _note(self, line: str) -> None:
        if self.log is None:
            return
        try:
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise RunFolderError(f"{self.log}: could not be written ({error.strerror})") from error

    def start_bar(self, num_minibatches: Sequence[int]) -> None:
        """Show a progress bar, where stderr is a terminal, of so many minibatches a round."""
        self.before_round = [0, *itertools.accumulate(num_minibatches)]
        self.bar = tqdm(total=self.before_round[-1], unit="batch", disable=None, dynamic_ncols=True)

    def advance(self, round_id: int, epoch: int, num_done: int) -> None:
        """Move the bar to so many minibatches of a round."""
        if self.bar is None or self.bar.disable:
            return
        position = self.before_round[round_id] + num_done
        if self.bar.n == 0:
            self.bar.initial = position  # what was done before a resumption says nothing of the speed
        self.bar.set_description(f"round {round_id}, epoch {epoch}", refresh=False)
        self.bar.update(position - self.bar.n)

    def stop_bar(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()


class Stopwatch:
    """Seconds by phase: what passed since the last lap goes to the phase that the lap names."""

    def __init__(self, seconds: dict[str, float] | None = None, *, since: float | None = None):
        self.seconds = dict(seconds or {})
        self._last = time.perf_counter() if since is None else since

    def lap(self, phase: str) -> None:
        """Add the time since the last lap to a phase."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now


def process_sec() -> float:
    """Seconds since the program began."""
    return time.perf_counter() - BEGAN


def peak_mem_gb() -> float:
    """Most memory this process has held so far, in GB (1e9 bytes), the GPU's apart."""
    with contextlib.suppress(OSError, KeyError):  # most Linux; there ru_maxrss begins with the starting process's peak
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(status["VmHWM"].split()[0]) * 1024 / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def accuracy_matrix(records: Sequence[Record], num_tasks: int, part: str = "test") -> np.ndarray:
    """R, float64 ``[rounds, num_tasks]``, NaN where a task has not arrived."""
    accuracy = np.full((len(records), num_tasks), np.nan)
    for row, record in zip(accuracy, records, strict=True):
        for task_id, value in record[f"{part}_accuracy"].items():
            row[int(task_id)] = np.nan if value is None else value
    return accuracy


def make_summary(
    records: Sequence[Record], settings: Settings, *, elapsed_sec: float, peak_gb: float
) -> dict[str, Any]:
    """What ``summary.json`` holds: the metrics over the tasks seen."""
    accuracy = accuracy_matrix(records, len(settings.benchmark.tasks))
    seen = accuracy[:, ~np.isnan(accuracy[-1])]
    return summarise(seen, continual=settings.continual) | {
        "final_accuracy": seen[-1].tolist(),
        "num_rounds": len(records),
        "elapsed_sec": elapsed_sec,
        "peak_mem_gb": peak_gb,
    }


def write_start(run_dir: Path, settings: Settings, *, argv: Sequence[str], device: str) -> None:
    """Write what is known before the first round: ``config.yaml`` and ``env.json``. Raises RunFolderError."""
    write_whole(run_dir / "config.yaml", settings_to_yaml(settings).encode())  # first: it marks the folder as ours
    write_json(
        run_dir / "env.json",
        {
            "command": shlex.join(["python", "modelzoo.py", *argv]),
            "commit": _commit(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "device": device,
            "threads": torch.get_num_threads(),
        },
    )


def read_summary(run_dir: Path) -> dict[str, Any]:
    """What ``summary.json`` says. Raises RunFolderError: the run is not complete, or the file is damaged."""
    path = run_dir / "summary.json"
    try:
        summary = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path}: expected the summary of a complete run ({error})") from error
    expected = {*METRIC_NAMES, "final_accuracy", "num_rounds", "elapsed_sec", "peak_mem_gb"}
    missing = sorted(expected - summary.keys()) if isinstance(summary, dict) else sorted(expected)
    if missing:
        raise RunFolderError(f"{path}: expected the summary of a complete run, got none of its {', '.join(missing)}")
    for key in sorted(expected):
        _check_value(path, key, summary[key])
    return summary


def _check_value(path: Path, key: str, value: Any) -> None:
    """Raise RunFolderError where a value of a summary has another type than those that are written."""
    if key == "final_accuracy":
        text, fits = "a list of numbers", isinstance(value, list) and all(map(_is_number, value))
    elif key in METRIC_NAMES and key != "average_accuracy":
        text, fits = "a number or null", value is None or _is_number(value)
    else:
        text, fits = "a number", _is_number(value)
    if not fits:
        raise RunFolderError(f"{path}: {key}: expected {text}, got {value!r:.60}")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < math.inf


def read_env(run_dir: Path) -> dict[str, Any]:
    """What ``env.json`` says of the invocation before; empty where it cannot be read."""
    try:
        env = json.loads((run_dir / "env.json").read_text())
    except (OSError, ValueError):
        return {}
    return env if isinstance(env, dict) else {}


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        described = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:  # no git here
        return None
    return described.stdout.strip() or None


def write_rounds(run_dir: Path, records: Sequence[Record], num_tasks: int) -> None:
    """Write ``rounds.jsonl`` and ``accuracy.csv`` anew from the records. Raises RunFolderError."""
    lines = [json.dumps(record, allow_nan=False) + "\n" for record in records]
    write_whole(run_dir / "rounds.jsonl", "".join(lines).encode())
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["round", *(f"task_{task_id}" for task_id in range(num_tasks))])
    for record in records:
        cells = [record["test_accuracy"].get(str(task_id), "") for task_id in range(num_tasks)]
        writer.writerow([record["round"], *cells])
    write_whole(run_dir / "accuracy.csv", table.getvalue().encode())


def write_figure(run_dir: Path, records: Sequence[Record], settings: Settings) -> None:
    """Write ``accuracy.png``. Raises RunFolderError."""
    from utils.plot import accuracy_figure  # here, since matplotlib takes half a second to import

    accuracy = accuracy_matrix(records, len(settings.benchmark.tasks))
    write_whole(
        run_dir / "accuracy.png",
        accuracy_figure(accuracy, settings.benchmark.names, continual=settings.continual),
    )


def round_line(record: Record, num_rounds: int) -> str:
    """A round in a line."""
    mean = {
        key: _mean([value for value in record[key].values() if value is not None])
        for key in ("train_loss", "train_accuracy", "test_accuracy")
    }
    return (
        f"round {record['round']:>3} of {num_rounds}   test {mean['test_accuracy']:7.2%}   "
        f"train {mean['train_accuracy']:7.2%}   loss {mean['train_loss']:.4f}   "
        f"{sum(record['seconds'].values()):7.1f} s   tasks {' '.join(map(str, record['tasks']))}"
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def closing_table(records: Sequence[Record], settings: Settings, summary: dict[str, Any]) -> str:
    """Each task's accuracy when it was learned, at the end, and the change; then the metrics."""
    accuracy = accuracy_matrix(records, len(settings.benchmark.tasks))
    trained = {task_id for record in records for task_id in record["tasks"]}
    width = max(len(name) for name in settings.benchmark.names)
    lines = ["", f"{'task':>4}  {'name':<{width}}  {'learned':>8}  {'at end':>8}  {'change':>7}"]
    for task_id, name in enumerate(settings.benchmark.names):
        column = accuracy[:, task_id]
        if np.isnan(column[-1]):
            continue
        learned = next((r["round"] for r in records if task_id in r["tasks"]), None)
        if learned is None:
            lines.append(f"{task_id:>4}  {name:<{width}}  {'-':>8}  {column[-1]:8.2%}  {'-':>7}  no learner: a guess")
            continue
        change = 100 * (column[-1] - column[learned])
        lines.append(f"{task_id:>4}  {name:<{width}}  {column[learned]:8.2%}  {column[-1]:8.2%}  {change:+7.2f}")
    lines.append("")
    for key, text in METRIC_NAMES.items():
        if summary[key] is not None:
            lines.append(f"{text:<48} {summary[key]:8.2%}")
    lines.append(
        f"{len(records)} learners, {len(trained)} tasks, {summary['elapsed_sec']:.1f} s, "
        f"{summary['peak_mem_gb']:.2f} GB of memory at most"
    )
    return "\n".join(lines)
