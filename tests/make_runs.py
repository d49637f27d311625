"""Run folders made by hand, for the readers of runs."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.config import Settings, settings_to_yaml
from utils.metrics import summarise

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "config/dataset/split_digits.yaml"
CONV = ROOT / "config/hyperparam/conv.yaml"


def make_run(run_dir: Path, settings: Settings, accuracy: Sequence[Sequence[float]], elapsed_sec: float = 60.0) -> None:
    """Write a complete run with the accuracies R, NaN where a task has not arrived."""
    run_dir.mkdir(parents=True)
    (run_dir / "config.yaml").write_text(settings_to_yaml(settings), encoding="utf-8")
    matrix = np.array(accuracy, dtype=float)
    with open(run_dir / "accuracy.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["round", *(f"task_{task}" for task in range(matrix.shape[1]))])
        for round_id, row in enumerate(matrix):
            writer.writerow([round_id, *("" if np.isnan(value) else value for value in row)])
    summary = summarise(matrix, continual=settings.continual) | {
        "final_accuracy": matrix[-1].tolist(),
        "num_rounds": len(matrix),
        "elapsed_sec": elapsed_sec,
        "peak_mem_gb": 0.5,
    }
    (run_dir / "summary.json").write_text(json.dumps(summary))
    (run_dir / "env.json").write_text(json.dumps({"commit": "abc123", "device": "a test"}))


def continual(*finals: float) -> list[list[float]]:
    """R of tasks that keep the accuracy they begin with."""
    nan = float("nan")
    return [[*finals[: done + 1], *[nan] * (len(finals) - done - 1)] for done in range(len(finals))]
