"""Named random seeds: each random choice has a name, and its seed depends only on that name and the run's seed."""

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


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


class OwnRandom:
    """A random state of its own for code that draws from torch's global generators, as layers with dropout do.

    Inside ``with`` the generators of the CPU and of one device are in this state; after it they are again as they were
    before. So what others draw in this process changes nothing here, and what is drawn here changes nothing for them.
    Only threads are not kept apart: the generators belong to the whole process.

    Attributes:
        states: The state of each generator by its kind of device (``cpu``, ``cuda``, ``mps``), uint8, on the CPU.
    """

    def __init__(self, seed: int, device: torch.device):
        """Begin with a seed; ``device`` is the one that is computed on."""
        self._devices = {kind.type: kind for kind in (torch.device("cpu"), device)}
        self.states = {kind: torch.Generator(kind).manual_seed(seed).get_state() for kind in self._devices}

    def __enter__(self) -> None:
        self._others = self._exchange(self.states)

    def __exit__(self, *_: object) -> None:
        self.states = self._exchange(self._others)

    def _exchange(self, states: dict[str, Tensor]) -> dict[str, Tensor]:
        """Put the generators into these states; returns those that they were in."""
        before = {}
        for kind, device in self._devices.items():
            module: Any = torch.random if kind == "cpu" else torch.get_device_module(device)
            where = [] if kind == "cpu" else [device]
            before[kind] = module.get_rng_state(*where)
            module.set_rng_state(states[kind], *where)
        return before

    def load(self, states: dict[str, Tensor]) -> None:
        """Go on from these states; those of other kinds of devices mean nothing here and are left out."""
        self.states |= {kind: state for kind, state in states.items() if kind in self.states}
