"""Suite files, and run folders made by hand, for the readers of runs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from utils.config import Settings, settings_to_yaml
from utils.files import write_json
from utils.records import Invocation, Record, make_summary

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "config/dataset/split_digits.yaml"
CONV = ROOT / "config/hyperparam/conv.yaml"
COLUMN = {"benchmark": str(DIGITS), "recipe": str(CONV)}
ROWS = {"Isolated": "--continual --tasks_per_round 1", "Model Zoo, b = 2": "--continual --tasks_per_round 2"}
INVOCATION = Invocation(
    command="python modelzoo.py", commit="abc123", python="3", torch="2", device="a test", threads=1, compiled=False
)


def make_run(run_dir: Path, settings: Settings, accuracy: Sequence[Sequence[float]], elapsed_sec: float = 60.0) -> None:
    """Write a complete run with the accuracies R, NaN where a task has not arrived."""
    run_dir.mkdir(parents=True)
    (run_dir / "config.yaml").write_text(settings_to_yaml(settings), encoding="utf-8")
    matrix = np.array(accuracy, dtype=float)
    with open(run_dir / "rounds.jsonl", "w", encoding="utf-8") as file:
        for round_id, row in enumerate(matrix):
            seen = {task_id: value for task_id, value in enumerate(row.tolist()) if not np.isnan(value)}
            no_loss = dict.fromkeys(seen, 0.0)
            record = Record(
                round=round_id,
                tasks=[round_id],
                weights={},
                train_loss=no_loss,
                train_accuracy=no_loss,
                test_loss=no_loss,
                test_accuracy=seen,
                epoch_loss=[0.0],
                learner_accuracy={},
            )
            file.write(record.model_dump_json() + "\n")
    summary = make_summary(matrix, settings, elapsed_sec=elapsed_sec, peak_mem_gb=0.5)
    write_json(run_dir / "summary.json", summary.model_dump())
    write_json(run_dir / "env.json", [INVOCATION.model_dump()])


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
