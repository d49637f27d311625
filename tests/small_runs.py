"""Runs of seconds: tiny benchmarks on disk, the program started on them, and what a run left behind."""

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
import yaml

import modelzoo
from utils.config import Settings

ROOT = Path(__file__).resolve().parent.parent
HERE = ("--device", "cpu", "--threads", "1", "--no_download")
FOUR_TASKS = ((0, 1), (2, 3), (4, 5), (6, 7))


def class_images(class_id, count, *, side=22, channels=1, seed=0):
    """Images of a class, uint8 ``[count, side, side, channels]``: a pattern of its own under noise.

    They depend on nothing but the arguments, so that other classes may come and go.
    """
    random = np.random.default_rng([seed, class_id, side, channels])
    pattern = random.integers(40, 216, (1, side, side, channels))
    noise = random.integers(-40, 41, (count, side, side, channels))
    return (pattern + noise).astype(np.uint8)


def write_npz(path, *, num_classes, per_class=6, test_per_class=5, **options):
    """A data set in the layout of Keras's ``mnist.npz``."""
    images = [class_images(class_id, per_class + test_per_class, **options) for class_id in range(num_classes)]
    np.savez(
        path,
        x_train=np.concatenate([part[:per_class] for part in images]),
        y_train=np.repeat(np.arange(num_classes), per_class),
        x_test=np.concatenate([part[per_class:] for part in images]),
        y_test=np.repeat(np.arange(num_classes), test_per_class),
    )
    return path


def write_benchmark(folder, tasks=FOUR_TASKS, *, name="tiny", **data):
    """A benchmark file beside its npz file."""
    num_classes = 1 + max(class_id for task in tasks for class_id in task)
    write_npz(folder / f"{name}.npz", num_classes=num_classes, **data)
    return write_yaml(folder / f"{name}.yaml", dataset="npz", root=f"{name}.npz", tasks=[list(task) for task in tasks])


def write_recipe(folder, **changes):
    """A recipe file."""
    recipe = {"model": "conv", "batch": 8, "lr": 0.01, "l2_reg": 0.00001, "dropout": 0.0}
    return write_yaml(folder / "small.yaml", **recipe | changes)


def write_yaml(path, **values):
    path.write_text(yaml.safe_dump(values))
    return path


def tiny_flags(folder, tasks=FOUR_TASKS, *, recipe=None, **data):
    """The flags of a run on a tiny benchmark made in ``folder``, one epoch long."""
    benchmark, recipe = write_benchmark(folder, tasks, **data), write_recipe(folder, **recipe or {})
    return ["--data_config", str(benchmark), "--hp_config", str(recipe), "--epochs", "1"]


def digits_flags(*, samples=8, epochs=1):
    """The flags of a run on the bundled digits."""
    configs = ROOT / "config"
    flags = ["--data_config", configs / "dataset/split_digits.yaml", "--hp_config", configs / "hyperparam/conv.yaml"]
    return [*map(str, flags), "--epochs", str(epochs), *(["--samples", str(samples)] if samples else [])]


def run(*argv):
    """The program within this process; gives its exit status."""
    return modelzoo.main([*HERE, *map(str, argv)])


def start(*argv, **options):
    """The program as a process of its own."""
    command = [sys.executable, str(ROOT / "modelzoo.py"), *HERE, *map(str, argv)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def wait_for(process, condition):
    """Return as soon as something is true of a process that goes on."""
    while not condition():
        assert process.poll() is None, f"ended before: {process.communicate()}"
        time.sleep(0.002)


def without_progress(err):
    """What was said on stderr, without the lines on how far the run is."""
    return [line for line in err.splitlines() if not line.startswith("round ")]


def rounds_of(run_dir):
    """The records of ``rounds.jsonl`` without the seconds, the only values that two equal runs may differ in."""
    records = [json.loads(line) for line in (run_dir / "rounds.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def num_rounds_done(run_dir):
    path = run_dir / "rounds.jsonl"
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def results_of(run_dir):
    """All that two equal runs have in common."""
    finished = json.loads((run_dir / "run.json").read_text())
    zoo = json.loads((run_dir / "zoo" / "zoo.json").read_text())
    weights = [
        digest(torch.load(run_dir / "zoo" / about["file"], weights_only=True).items()) for about in zoo["learners"]
    ]
    return {
        "rounds": rounds_of(run_dir),
        "accuracy": (run_dir / "accuracy.csv").read_bytes(),
        "finished": {key: finished[key] for key in finished.keys() - {"invocations", "elapsed_sec", "peak_mem_gb"}},
        "zoo": zoo,
        "weights": weights,
    }


def content_of(folder):
    """All files but the lock, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


GONE = object()


def change(path, *keys, to):
    """Set a value deep in a JSON file, or take it away."""
    whole = part = json.loads(path.read_text())
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = to
    if to is GONE:
        del part[keys[-1]]
    path.write_text(json.dumps(whole))


def digest(named_tensors):
    """Of tensors by name, to the bit."""
    state = hashlib.blake2b(digest_size=8)
    for name, tensor in named_tensors:
        state.update(repr((name, tensor.dtype, tensor.shape)).encode() + tensor.contiguous().numpy().tobytes())
    return state.hexdigest()


def settings(tasks=FOUR_TASKS, *, recipe=None, **changes):
    """Settings of a tiny run, for tests of the method itself."""
    values = {
        "benchmark_name": "tiny",
        "recipe_name": "small",
        "epochs": 1,
        "continual": True,
        "tasks_per_round": min(3, len(tasks)),
        "seed": 0,
        "benchmark": {"dataset": "npz", "root": "tiny.npz", "tasks": tasks},
        "recipe": {"model": "conv", "batch": 8, "lr": 0.01, "l2_reg": 1e-5, "dropout": 0.0} | (recipe or {}),
    }
    return Settings.model_validate(values | changes)
