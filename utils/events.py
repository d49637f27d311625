"""Event files for TensorBoard: the training loss by epoch, and the accuracies by round."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from utils.config import Settings
from utils.errors import in_one_line
from utils.logger import Screen
from utils.rounds import Record


class EventFiles:
    """The event files of a run; before ``begin`` nothing is written.

    If writing them fails, there is one warning, and nothing more is written.
    """

    def __init__(self, folder: Path, settings: Settings, screen: Screen):
        self.folder, self.settings, self.screen = folder, settings, screen
        self.num_losses = 0  # of the current round, that are written
        self.wall_times: dict[tuple[str, int], float] = {}  # by tag and step: when an earlier process wrote the value
        self.writer: Any = None  # a SummaryWriter

    def begin(self, rounds: Iterable[Record]) -> None:
        """Write the rounds so far. Files that are there are written anew, so that no value is in them twice.

        Values keep the times at which they were first written, as far as the old files can be read.
        """
        try:
            from tensorboard.backend.event_processing.event_file_loader import EventFileLoader  # here: it takes seconds
            from torch.utils.tensorboard import SummaryWriter

            old = list(self.folder.glob("events.out.tfevents.*"))
            for event in (event for path in old for event in EventFileLoader(str(path)).Load()):
                self.wall_times |= {(value.tag, event.step): event.wall_time for value in event.summary.value}
            self.writer = SummaryWriter(self.folder)
            for record in rounds:
                self.add_round(record)
            for path in old if self.writer else ():  # last, so that nothing is lost if this process is killed before
                path.unlink()
        except Exception as error:  # other people's code; nothing beside the numbers stops a run
            self._give_up(error)

    def add_losses(self, round_id: int, epoch_loss: list[float]) -> None:
        """Write the losses of those epochs of a round that are new."""
        for epoch in range(self.num_losses, len(epoch_loss)):
            self._write({"training loss": epoch_loss[epoch]}, round_id * self.settings.epochs + epoch)
        self.num_losses = len(epoch_loss)

    def add_round(self, record: Record) -> None:
        """Write a round's losses and accuracies."""
        self.add_losses(record.round, record.epoch_loss)
        self.num_losses = 0
        kind, names = f"{record.scored_on} accuracy", self.settings.benchmark.names
        by_task = {f"{kind}/{t} {names[t]}": value for t, value in record.accuracy.items()}
        self._write({f"average {kind}": fmean(by_task.values())} | by_task, record.round)

    def _write(self, scalars: Mapping[str, float], step: int) -> None:
        """Write values by tag."""
        if self.writer is None:
            return
        try:
            for tag, value in scalars.items():
                self.writer.add_scalar(tag, value, step, walltime=self.wall_times.get((tag, step)))
            self.writer.flush()
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.writer = None
        self.screen.warn(f"{self.folder}: event files could not be written ({in_one_line(error)})")
