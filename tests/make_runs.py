"""Suite files, and run folders made by hand, for the readers of runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from utils.config import Settings, settings_to_yaml
from utils.finished_run import FinishedRun, finish
from utils.rounds import Record, TaskInfo, ZooInfo

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "config/dataset/split_digits.yaml"
CONV = ROOT / "config/hyperparam/conv.yaml"
COLUMN = {"benchmark": str(DIGITS), "recipe": str(CONV)}
ROWS = {"Isolated": "--continual --tasks_per_round 1", "Model Zoo, b = 2": "--continual --tasks_per_round 2"}
INVOCATION = {"commit": "abc123", "torch": "2", "device": "a test", "threads": 1, "precision": "fp32"}


def make_records(settings: Settings, accuracy: Sequence[Sequence[float]]) -> list[Record]:
    """Rounds with the accuracies R, NaN where a task has not arrived."""
    records = []
    for round_id, row in enumerate(accuracy):
        seen = {task_id: float(value) for task_id, value in enumerate(row) if not np.isnan(value)}
        no_loss = dict.fromkeys(seen, 0.0)
        record = Record(
            round=round_id,
            tasks=[round_id] if settings.continual else list(seen),
            weights={},
            scored_on=settings.scored_on,
            train_loss=no_loss,
            train_accuracy=no_loss,
            loss=no_loss,
            accuracy=seen,
            epoch_loss=[0.0],
            learner_accuracy={},
            num_parameters=1000,
            images_trained=100,
            images_stored=10 * round_id,
        )
        records.append(record)
    return records


def finished_run(
    settings: Settings,
    accuracy: Sequence[Sequence[float]],
    *,
    invocations: Sequence[Mapping[str, object]] = (INVOCATION,),
    data: str = "",
) -> FinishedRun:
    """A run with the accuracies R; ``data`` tells its data from others."""
    tasks = [
        TaskInfo(task_id=task_id, name=name, classes=(), fingerprint=f"{data}{classes}")
        for task_id, (name, classes) in enumerate(zip(settings.benchmark.names, settings.benchmark.tasks, strict=True))
    ]
    zoo = ZooInfo(model="conv", image_shape=(1, 28, 28), tasks=tuple(tasks))
    records = make_records(settings, accuracy)
    return finish(records, settings, zoo, invocations, elapsed_sec=60.0, peak_mem_gb=0.5)


def make_run(run_dir: Path, settings: Settings, accuracy: Sequence[Sequence[float]], **more: Any) -> None:
    """Write a complete run with the accuracies R: ``config.yaml`` and ``run.json``."""
    run_dir.mkdir(parents=True)
    (run_dir / "config.yaml").write_text(settings_to_yaml(settings), encoding="utf-8")
    (run_dir / "run.json").write_text(finished_run(settings, accuracy, **more).to_json())


def continual(*finals: float) -> list[list[float]]:
    """R of tasks that keep the accuracy they begin with."""
    nan = float("nan")
    return [[*finals[: done + 1], *[nan] * (len(finals) - done - 1)] for done in range(len(finals))]


def write_suite(path: Path, **values) -> Path:
    base = {
        "title": "Title",
        "flags": "--epochs 1 --samples 8",
        "seeds": [0],
        "rows": ROWS,
        "columns": {"Digits": COLUMN | {"flags": "--task_ids 3 1"}},
    }
    path.write_text(yaml.safe_dump(base | values))
    return path
