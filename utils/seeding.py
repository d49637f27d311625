"""Named randomness: every random draw states whose draw it is."""

import contextlib
import hashlib
from collections.abc import Iterator

import torch


def child_seed(root: int, *name: str | int) -> int:
    """Seed of one consumer, e.g. ``child_seed(0, "round", 3, "init")``.

    Names, not call order, decide the seed: a new consumer leaves the others unmoved.

    Args:
        root: the run's ``--seed``.
        name: who draws, from the general to the particular.

    Returns:
        An integer in [0, 2**63).
    """
    digest = hashlib.blake2b(repr((root, *name)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1  # 63 bits: fits a signed int64


def generator(root: int, *name: str | int) -> torch.Generator:
    """A CPU generator for one named consumer, so that a draw is the same whatever the device."""
    return torch.Generator().manual_seed(child_seed(root, *name))


@contextlib.contextmanager
def ambient_seed(seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator for a while, for code that takes no generator (layers' initial weights)."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
