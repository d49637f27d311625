"""A suite's runs as Ray tasks, for many machines that share a disk. Only this file imports Ray, which is an extra.

A task holds its share of CPUs and GPUs. If its worker or its process is killed, Ray does it again, and the run goes on
from its last state: a task leaves nothing but the run folder.
"""

import contextlib
import logging
import os
import socket
from concurrent.futures import Future
from typing import Any

from utils.errors import UserError, in_one_line, short
from utils.program import ROOT
from utils.suite.command import Command
from utils.suite.file import Run
from utils.suite.run import Died, Outcome, run_command


def _run_command_in(folder: str, run: Run) -> Outcome:
    """Do a run from the folder in which the suite was started."""
    os.chdir(folder)
    return run_command(run, {}, lambda: False)


class RayPool:
    """A Ray cluster. Each of its nodes sees the project and the runs under the paths that they have here."""

    def __init__(self, command: Command, *, num_cpus: int, threads: int):
        """Start or join a cluster.

        Args:
            command: ``command.ray`` is ``local`` to start a cluster on this machine; another address is joined.
            num_cpus: The number of CPUs of a local cluster.
            threads: The number of CPUs of a run.

        Raises:
            UserError: Ray is not installed, there is no cluster at the address, or no node can do a run.
        """
        self._tasks: list[Any] = []
        self._connect((command.ray or "local").strip(), num_cpus)
        nodes = [node["Resources"] for node in self._ray.nodes()]
        has_gpu = any(node.get("GPU", 0) > 0 for node in nodes)
        if max(node.get("CPU", 0) for node in nodes) < threads or (command.device == "cuda" and not has_gpu):
            self.close()
            wanted = f"a node with {threads} CPUs and, if --device cuda, a GPU"
            raise UserError(f"--threads, --device: expected {wanted}, got nodes with {short(nodes)}")
        num_gpus = 1 / command.per_gpu if has_gpu and command.device in ("auto", "cuda") else 0
        needs = {"num_cpus": threads, "num_gpus": num_gpus}
        self._task = self._ray.remote(**needs, max_retries=3, retry_exceptions=[Died])(_run_command_in)

    def _connect(self, address: str, num_cpus: int) -> None:
        try:
            import ray
        except ImportError as error:
            raise UserError(f"--ray: expected Ray, pip install -r requirements-ray.txt ({error})") from error
        self._ray: Any = ray
        check_reachable(address)
        screen = os.dup(2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # Ray's core says many times what its error says once
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        local = {"num_cpus": num_cpus, "include_dashboard": False} if address == "local" else {}
        try:
            with contextlib.chdir(ROOT):  # Ray's workers look for modules in this folder first
                self._ray.init(address, **local, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            token = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"
            reason = f"({in_one_line(error)}); if it wants a token, {token}"
            raise UserError(f"--ray: there is no cluster at {short(address)} {reason}") from error
        finally:
            os.dup2(screen, 2)

    def submit(self, run: Run) -> Future[Outcome]:
        """Do a run as soon as a node has room."""
        self._tasks.append(self._task.remote(os.getcwd(), run))
        return self._tasks[-1].future()

    def stop(self) -> None:
        """Let all runs save their states and stop."""
        while self._tasks:  # a task that is cancelled twice could not save its state
            self._ray.cancel(self._tasks.pop())

    def close(self) -> None:
        """Stop what still runs, and leave the cluster; a local one ends."""
        self.stop()
        self._ray.shutdown()


def check_reachable(address: str) -> None:
    """Raise UserError if nothing answers at HOST:PORT: Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():  # not local or auto
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except (OSError, OverflowError) as error:
            raise UserError(f"--ray: there is no cluster at {short(address)} ({error})") from error
