"""Event files for TensorBoard: the training loss by epoch, and the accuracies by round."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.config import Settings
from utils.errors import in_one_line
from utils.records import Record

if TYPE_CHECKING:
    from utils.logger import Screen


class EventFiles:
    """The event files of a run. They are written anew when a run is resumed, so that no value is in them twice.

    If writing them fails, there is one warning, and nothing more is written.
    """

    def __init__(self, folder: Path, rounds: Iterable[Record], settings: Settings, screen: "Screen"):
        self.folder, self.settings, self.screen = folder, settings, screen
        self.num_losses = 0  # of the current round, that are written
        try:
            from torch.utils.tensorboard import SummaryWriter  # here: importing it takes seconds

            for path in folder.glob("events.out.tfevents.*"):  # after it: without TensorBoard they stay
                path.unlink()
            self.writer: SummaryWriter | None = SummaryWriter(folder)
        except Exception as error:  # other people's code; nothing beside the numbers stops a run
            self._give_up(error)
        for record in rounds:
            self.add_round(record)

    def add_losses(self, round_id: int, epoch_loss: list[float]) -> None:
        """Write the losses of those epochs of a round that are new."""
        new = list(enumerate(epoch_loss))[self.num_losses :]
        if new:
            self.num_losses = len(epoch_loss)
            self._write(("training loss", loss, round_id * self.settings.epochs + epoch) for epoch, loss in new)

    def add_round(self, record: Record) -> None:
        """Write a round's losses and accuracies."""
        self.add_losses(record.round, record.epoch_loss)
        self.num_losses = 0
        accuracy, kind = record.accuracy, f"{record.scored_on} accuracy"
        self._write([(f"average {kind}", float(np.mean(list(accuracy.values()))), record.round)])
        names = self.settings.benchmark.names
        self._write((f"{kind}/{t} {names[t]}", value, record.round) for t, value in accuracy.items())

    def _write(self, scalars: Iterable[tuple[str, float, int]]) -> None:
        """Write values with their tag and step."""
        if self.writer is None:
            return
        try:
            for scalar in scalars:
                self.writer.add_scalar(*scalar)
            self.writer.flush()
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.writer = None
        self.screen.warn(f"{self.folder}: event files could not be written ({in_one_line(error)})")
