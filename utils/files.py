"""Writing files so that a killed process or a full disk never leaves half a file in place of a whole one."""

import contextlib
import errno
import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from utils.errors import UserError

MOST_LETTERS = 200  # of a folder's name: file systems take 255


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new binary file that takes the place of ``path`` when the block ends without an error, and not before.

    It is written beside ``path`` under a name of its own, so two processes may write the same path.

    Raises:
        OSError: The file cannot be written.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            yield file
            _sync(file)
        os.replace(part, path)
        _sync_folder(path.parent)
    finally:  # after a signal too
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def remove_parts(folder: Path, *, older_than_sec: float = 0) -> None:
    """Delete files that a killed process left half written in a folder."""
    for part in folder.glob(".*.part"):
        with contextlib.suppress(OSError):  # another process may be quicker
            if time.time() - part.stat().st_mtime >= older_than_sec:
                part.unlink()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all. Raises UserError if it cannot be written."""
    with _named(path), whole_file(path) as file:
        file.write(content)


def write_json(path: Path, value: object) -> None:
    """Write JSON, whole or not at all. Raises ValueError for NaN and infinity, which JSON does not have."""
    write_whole(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def make_folder(path: Path) -> None:
    """Make a folder that is to be written. Raises UserError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: the folder cannot be written ({error.strerror})") from error


def slug(name: str) -> str:
    """A name as a part of a path: ``Model Zoo, b = 5`` is ``model_zoo_b_5``, and ``DER++`` is ``der_plus_plus``.

    A digest replaces letters beyond ASCII and the end of long names, so that every file system accepts the result.
    """
    words = re.sub(r"[^a-z0-9.]+", "_", name.lower().replace("+", " plus ")).strip("_.")
    if len(words) <= MOST_LETTERS and not re.search(r"[^\W\x00-\x7f]", name):
        return words
    return f"{words[:MOST_LETTERS]}_{hashlib.blake2b(name.lower().encode(), digest_size=4).hexdigest()}".strip("_")


def append(path: Path, content: bytes) -> None:
    """Add to the end of a file. Raises UserError if it cannot be written."""
    with _named(path), path.open("ab") as file:
        file.write(content)
        _sync(file)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn an OSError in writing into a UserError that names the file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: could not be written ({reason}); what was saved before is kept") from error


def _sync(file: BinaryIO) -> None:
    """Make what was written to a file outlive a power cut, where the file system offers that."""
    file.flush()
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder outlive a power cut, where the system can do that: the file itself is written."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
