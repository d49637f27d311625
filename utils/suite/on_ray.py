"""A suite's runs as Ray tasks, for many machines that share a disk. Ray is imported here only, and is an extra.

A task holds its share of CPUs and GPUs. Where its worker or its process is killed Ray does it again, and the run goes
on from its last state: the run folder is all that a task leaves.
"""

import logging
import os
import socket
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from utils.config import ConfigError
from utils.suite.run import Died, Job, Outcome, carry_out

ROOT = Path(__file__).resolve().parents[2]
NUM_RETRIES = 3
ANSWER_SEC = 10


def _carry_out_in(folder: str, job: Job) -> Outcome:
    """Carry out a job from the folder in which the suite was started."""
    os.chdir(folder)
    return carry_out(job, {}, lambda: False)


class RayPool:
    """A Ray cluster, each of whose nodes sees the project and the runs under the paths that they have here."""

    def __init__(self, address: str, *, num_slots: int, threads: int, device: str, per_gpu: int):
        """Start or join a cluster.

        Args:
            address: ``local`` starts one on this machine with so many slots; ``auto`` or another address joins one.
            num_slots: runs at a time, in a local one.
            threads: CPUs of a run.
            device: of the runs; on a GPU a run has its share of one.
            per_gpu: runs at a time on a GPU.

        Raises:
            ConfigError: Ray is not installed, there is no cluster at the address, or no node can do a run.
        """
        self._ray = _import_ray()
        check_reachable(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        where = {"num_cpus": num_slots * threads} if address == "local" else {"address": address}
        try:
            self._ray.init(
                **where,
                include_dashboard=False if address == "local" else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(f"--ray: expected a cluster at {address!r}, got none ({_first_line(error)})") from error
        resources = self._ray.cluster_resources()
        most_cpus = max(node["Resources"].get("CPU", 0) for node in self._ray.nodes())
        if threads > most_cpus:
            self.close()
            raise ConfigError(f"--threads: expected at most {most_cpus:g}, as the largest node has, got {threads}")
        if device == "cuda" and not resources.get("GPU"):
            self.close()
            raise ConfigError(f"--device: expected one that is there (the cluster has no GPU), got {device!r}")
        with_gpu = device == "cuda" or (device == "auto" and resources.get("GPU", 0) > 0)
        self.num_slots = max(1, int(resources.get("GPU", 0) * per_gpu if with_gpu else resources["CPU"] // threads))
        self._task = self._ray.remote(
            num_cpus=threads,
            num_gpus=1 / per_gpu if with_gpu else 0,
            max_retries=NUM_RETRIES,
            retry_exceptions=[Died],
        )(_carry_out_in)
        self._tasks: list[Any] = []

    def submit(self, job: Job) -> Future[Outcome]:
        """Have a job done as soon as there is room."""
        self._tasks.append(self._task.remote(os.getcwd(), job))
        return self._tasks[-1].future()

    def stop(self) -> None:
        """Have all jobs save their states and stop."""
        for task in self._tasks:
            self._ray.cancel(task)

    def close(self) -> None:
        """Leave the cluster; a local one ends."""
        self._ray.shutdown()


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f"--ray: expected Ray, pip install -r requirements-ray.txt ({error})") from error
    return ray


def check_reachable(address: str) -> None:
    """Raise ConfigError where nothing answers at HOST:PORT: Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return  # local, auto
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SEC).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--ray: expected a cluster at {address!r}, got none ({error})") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
