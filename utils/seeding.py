"""Named random seeds: each random choice has a name, and its seed depends only on that name and the run's seed."""

import contextlib
import hashlib
from collections.abc import Iterator

import torch


def child_seed(root: int, *name: str | int) -> int:
    """Return the seed for one named random choice, e.g. ``child_seed(0, "round", 3, "init")``.

    The name decides the seed, not the order of calls: adding a random choice does not change the others.

    Args:
        root: The run's ``--seed``.
        name: Who draws, from the general to the particular.

    Returns:
        An integer in [0, 2**63).
    """
    digest = hashlib.blake2b(repr((root, *name)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1  # 63 bits: fits a signed int64


def generator(root: int, *name: str | int) -> torch.Generator:
    """A generator for one named random choice; on the CPU, so that the choice is the same on every device."""
    return torch.Generator().manual_seed(child_seed(root, *name))


@contextlib.contextmanager
def ambient_seed(seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator for a while, for code that takes no generator (layers' initial weights)."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
