"""What a run leaves on the disk, whole or not at all: states to resume from, and the zoo's learners."""

import contextlib
import hashlib
import io
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch

DIGEST_BYTES = 32
STATES_KEPT = 2  # the newest, and the one before it in case the newest is damaged


class RunFolderError(Exception):
    """A run folder that cannot be used as asked, or a file in it that cannot be written or read."""


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that at any instant, also after a crash, its path holds all of the old content or of the new.

    Raises:
        RunFolderError: no room, no permission.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)  # on a full disk the room is needed
        raise RunFolderError(
            f"{path}: could not be written ({error.strerror}); what was saved before is kept"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all. A NaN raises ValueError: it is not JSON."""
    write_whole(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, headed by a digest that tells a damaged file. Raises RunFolderError."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    write_whole(path, hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest() + content)


def load_state(path: Path) -> dict[str, Any]:
    """Read what ``save_state`` wrote; runs no code from the file. Raises RunFolderError: it is damaged."""
    try:
        content = path.read_bytes()
        head, body = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        if hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest() != head:
            raise RunFolderError(f"{path}: damaged, its digest does not fit")
        return torch.load(io.BytesIO(body), weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise RunFolderError(f"{path}: could not be read ({error!r:.120})") from error


class Checkpoints:
    """A run's states: the newest two in ``checkpoint/`` while it runs, the last one in ``zoo/`` when it is done."""

    def __init__(self, run_dir: Path):
        self.folder = run_dir / "checkpoint"
        self.final = run_dir / "zoo" / "state.pt"

    def save(self, state: dict[str, Any], *, round_id: int, minibatch: int) -> None:
        """Save the state after so many rounds, and minibatches of the round in hand. Raises RunFolderError."""
        self.folder.mkdir(exist_ok=True)
        save_state(self.folder / f"round_{round_id:04d}_minibatch_{minibatch:09d}.pt", state)
        for old in self._newest_first()[STATES_KEPT:]:
            old.unlink()

    def load(self) -> tuple[dict[str, Any] | None, list[str]]:
        """The newest state that is whole, None where there is none, and a warning for each damaged one passed over.

        Raises:
            RunFolderError: there are states, but all are damaged.
        """
        warnings: list[str] = []
        paths = [*self._newest_first(), *([self.final] if self.final.exists() else [])]
        for path in paths:
            try:
                return load_state(path), warnings
            except RunFolderError as damaged:
                warnings.append(f"{damaged}; going on from the state before it")
        if paths:
            raise RunFolderError(
                f"{warnings[-1].partition(';')[0]}, and no other state is left; --overwrite starts anew"
            )
        return None, warnings

    def finish(self, state: dict[str, Any]) -> None:
        """Keep the last state with the zoo, so that the run can grow. Raises RunFolderError."""
        save_state(self.final, state)

    def clear(self) -> None:
        """Remove the states in ``checkpoint/``."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("round_*.pt"), reverse=True)


def learner_path(run_dir: Path, round_id: int) -> Path:
    """Where the weights of a round's learner lie."""
    return run_dir / "zoo" / f"learner_{round_id:03d}.pt"


def save_learner(run_dir: Path, round_id: int, weights: dict[str, torch.Tensor]) -> None:
    """Write a learner's weights as torch itself would. Raises RunFolderError."""
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    learner_path(run_dir, round_id).parent.mkdir(exist_ok=True)
    write_whole(learner_path(run_dir, round_id), buffer.getvalue())
