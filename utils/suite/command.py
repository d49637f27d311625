"""The command line of ``python -m utils.suite``, typed and checked."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from joblib import cpu_count
from pydantic import Field, model_validator

from utils.command_line import Parser, add_flags
from utils.config import Count, Machine, Seed, validate

PASSED_ON = Machine.model_fields.keys() - {"device", "threads"}  # to every run, as they were given


class Command(Machine):
    """The suite file, and the flags with their help."""

    suite: Path
    seeds: tuple[Seed, ...] | None = Field(None, description="in place of the suite's")
    only: str = Field("", description="only runs whose name, 'method / benchmark / seed 0', has these words in it")
    jobs: Count | None = Field(None, description="runs at a time (as fit the cores; with GPUs --per_gpu on each)")
    per_gpu: Count = Field(1, description="runs at a time on a GPU")
    ray: str | None = Field(None, min_length=1, description="by Ray: a local cluster, or auto or an address")
    suite_dir: Path | None = Field(None, description="the folder of the runs (runs/<name of the suite file>)")
    dry_run: bool = Field(False, description="check everything and print the commands; write nothing")
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:1, mps")
    threads: int | None = Field(None, ge=1, le=10_000, description="CPU threads of a run (1; with GPUs its share)")

    @model_validator(mode="after")
    def _check(self) -> "Command":
        if self.ray and self.device.startswith("cuda:"):
            raise ValueError(f"device: expected cuda beside --ray, which gives each run its GPU, got {self.device!r}")
        if self.jobs and self.ray not in (None, "local"):
            raise ValueError("jobs: with an address for --ray the cluster decides how many run at a time")
        return self


def read_command(argv: Sequence[str]) -> Command:
    """The command line as typed values. Raises UserError."""
    about = "Do all runs of a suite that are not complete. From another folder: python PROJECT/utils/suite SUITE.yaml"
    parser = Parser("python -m utils.suite", description=about, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("suite", metavar="SUITE.yaml", help="a file as those in config/suite")
    threads = {"type": lambda word: cpu_count() if word == "all" else word}
    add_flags(parser, Command, seeds={"nargs": "+"}, ray={"nargs": "?", "const": "local"}, threads=threads)
    return validate(Command, vars(parser.parse_intermixed_args(argv)))
