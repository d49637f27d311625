"""A zoo that was grown, read from its run folder and ready to be used.

Letters: M examples of a task, N images, H x W x C pixels, K classes.
"""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

import numpy as np
import torch
from torch import Tensor

from net.average import Average, predict
from net.build_net import build_net
from net.multihead import MultiHead
from utils.errors import UserError, in_one_line, short
from utils.rounds import LearnerInfo, ZooInfo
from utils.run_folder import learner_path, read_zoo


@dataclass(frozen=True)
class SavedZoo:
    """A zoo that was grown. Its class probabilities on a task are the average over the learners trained on that task.

    Attributes:
        info: What ``zoo/zoo.json`` says: the model, the images' shape, the tasks, each learner's tasks.
        learners: The networks, in the order of the rounds.
    """

    info: ZooInfo
    learners: Sequence[MultiHead]

    @classmethod
    def load(cls, run_dir: str | Path, *, device: str | torch.device = "cpu") -> "SavedZoo":
        """Load the zoo of a run folder. Nothing in its files is run as code.

        Raises:
            UserError: A file is missing or damaged; the message names it.
        """
        info = read_zoo(Path(run_dir))
        return cls(info, [_load_learner(Path(run_dir), info, about, device) for about in info.learners])

    def task_id(self, name_or_id: str) -> int:
        """The id of the task with this name (in any Unicode form) or id. Raises UserError unless exactly one fits."""
        asked = normalize("NFC", name_or_id)
        found = [t.task_id for t in self.info.tasks if asked in (normalize("NFC", t.name), str(t.task_id))]
        if len(found) == 1:
            return found[0]
        known = ", ".join(f"{task.task_id} ({task.name})" for task in self.info.tasks)
        raise UserError(f"--task: expected the name or id of one of {known}, got {short(name_or_id)}")

    def num_learners(self, task_id: int) -> int:
        """How many learners were trained on a task."""
        return sum(task_id in about.tasks for about in self.info.learners)

    def predict(self, images: Tensor | np.ndarray, task_id: int) -> Tensor:
        """Class probabilities of images that belong to a task.

        Args:
            images: uint8 ``[N, H, W]`` or ``[N, H, W, C]``, of the size and channels that the zoo was trained on.
            task_id: The task's id.

        Returns:
            float32 ``[N, K]`` on the CPU; uniform for a task without a learner.

        Raises:
            ValueError: The images have another type or shape, or there is no such task.
        """
        images = torch.as_tensor(images)
        images = images[..., None] if images.ndim == 3 else images
        channels, height, width = self.info.image_shape
        if images.dtype != torch.uint8 or images.shape[1:] != (height, width, channels):
            got = f"{images.dtype} {list(images.shape)}"
            raise ValueError(f"images: expected torch.uint8 [N, {height}, {width}, {channels}], got {got}")
        if not 0 <= task_id < len(self.info.tasks):
            raise ValueError(f"task_id: expected 0..{len(self.info.tasks) - 1}, got {task_id}")
        labels = torch.zeros(len(images), dtype=torch.int64)  # not known, and not needed
        average = self.average(images, torch.arange(len(images), device=images.device), labels, task_id)
        return average.total / average.votes if average.votes else average.total + 1 / average.total.shape[1]

    def average(self, images: Tensor, rows: Tensor, labels: Tensor, task_id: int) -> Average:
        """The zoo's prediction on some images of a task, as in growing.

        Args:
            images: uint8 ``[N, H, W, C]``.
            rows: Which of the images, int64 ``[M]``, on the same device as the images.
            labels: Their labels, int64 ``[M]``.
            task_id: The task's id.
        """
        average = Average.empty(labels, len(self.info.tasks[task_id].classes))
        for about, learner in zip(self.info.learners, self.learners, strict=True):
            if task_id in about.tasks:
                probabilities = torch.empty_like(average.total)
                list(predict(learner, about.tasks.index(task_id), images, rows, probabilities))
                average.add(probabilities, about.votes[task_id])
        return average


def _load_learner(run_dir: Path, info: ZooInfo, about: LearnerInfo, device: str | torch.device) -> MultiHead:
    path = learner_path(run_dir, about.round)
    num_classes = [len(info.tasks[task_id].classes) for task_id in about.tasks]
    learner = build_net(info.model, info.image_shape, num_classes, dropout=0.0, seed=0)
    try:
        learner.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    except torch.OutOfMemoryError:  # a RuntimeError, but no damage
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        problem = f"missing, damaged or of another zoo ({in_one_line(error)})"
        raise UserError(f"{path}: expected a learner's weights, but the file is {problem}") from error
    return learner.to(device)
