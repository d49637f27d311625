"""A zoo that was grown, as a thing one can use."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from net.build_net import NetError, build_net
from net.multihead import MultiHead

PREDICTION_BATCH = 100  # images at once; growing and using a zoo take the same, so that the numbers are the same

# What json, torch and the networks raise on files that are missing, cut off, of another zoo, or would run code.
_DAMAGE = (OSError, RuntimeError, ValueError, KeyError, IndexError, TypeError, EOFError, pickle.UnpicklingError)


def _check(description: dict[str, Any]) -> None:
    """Raise one of ``_DAMAGE`` where ``zoo.json`` lacks what predicting takes from it later."""
    for position, task in enumerate(description["tasks"]):
        if (task["task_id"], type(task["name"]), type(task["classes"])) != (position, str, list):
            raise ValueError(f"tasks[{position}]: expected task_id {position}, a name and a list of classes")
    for about in description["learners"]:
        if {*about["votes"]} != {str(task_id) for task_id in about["tasks"]}:
            raise ValueError(f"learner {about['file']}: expected a vote for each of its tasks {about['tasks']}")
        if not all(about["votes"][key] > 0 for key in about["votes"]):
            raise ValueError(f"learner {about['file']}: expected positive votes, got {about['votes']}")


class ModelZoo:
    """The learners; its class probabilities on a task are the average of those of the learners trained on it.

    Attributes:
        description: what ``zoo/zoo.json`` says: the model, the images' shape, the tasks, each learner's tasks.
        learners: in the order of the rounds.
    """

    def __init__(self, description: dict[str, Any], learners: Sequence[MultiHead]):
        self.description = description
        self.learners = learners

    @classmethod
    def load(cls, run_dir: str | Path, *, device: str | torch.device = "cpu") -> "ModelZoo":
        """The zoo of a run folder. Nothing in its files is run as code.

        Raises:
            NetError: a file is missing or damaged; the message names it.
        """
        folder = Path(run_dir) / "zoo"
        path = folder / "zoo.json"
        try:
            description = json.loads(path.read_text(encoding="utf-8"))
            _check(description)
            learners = []
            for about in description["learners"]:
                path = folder / about["file"]
                learner = build_net(
                    description["model"],
                    image_shape=tuple(description["image_shape"]),
                    num_classes=[len(description["tasks"][task_id]["classes"]) for task_id in about["tasks"]],
                    dropout=0.0,
                )
                learner.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
                learners.append(learner.to(memory_format=torch.channels_last).to(device))
        except torch.OutOfMemoryError:  # a RuntimeError, but no damage
            raise
        except _DAMAGE as error:
            raise NetError(
                f"{path}: expected a file of a zoo, but it is missing or damaged ({error!r:.120})"
            ) from error
        return cls(description, learners)

    def task_id(self, name_or_id: str) -> int:
        """The id of the task with this name or id. Raises NetError: there is none, or one of each."""
        tasks = self.description["tasks"]
        named = [task["task_id"] for task in tasks if task["name"] == name_or_id]
        numbered = [task["task_id"] for task in tasks if str(task["task_id"]) == name_or_id]
        if named and numbered and named != numbered:
            both = f"the name of task {named[0]} and the id of task {numbered[0]}"
            raise NetError(f"task: expected the name or id of one task, got {name_or_id!r}, {both}")
        if named or numbered:
            return (named or numbered)[0]
        known = ", ".join(f"{task['task_id']} ({task['name']})" for task in tasks)
        raise NetError(f"task: expected one of {known}, got {name_or_id!r}")

    def num_learners(self, task_id: int) -> int:
        """How many learners were trained on a task."""
        return sum(task_id in about["tasks"] for about in self.description["learners"])

    def predict(self, images: Tensor | np.ndarray, task_id: int) -> Tensor:
        """Class probabilities of images that belong to a task.

        Args:
            images: uint8 ``[N, H, W]`` or ``[N, H, W, C]``, of the size and colours the zoo was trained on.
            task_id: which task.

        Returns:
            float32 ``[N, K]`` on the CPU; uniform for a task without a learner.

        Raises:
            ValueError: images of another type or shape.
        """
        images = torch.as_tensor(images)
        images = images[..., None] if images.ndim == 3 else images
        channels, height, width = self.description["image_shape"]
        if images.dtype != torch.uint8 or images.shape[1:] != (height, width, channels):
            got = f"{images.dtype} {list(images.shape)}"
            raise ValueError(f"images: expected torch.uint8 [N, {height}, {width}, {channels}], got {got}")
        num_classes = len(self.description["tasks"][task_id]["classes"])
        total, weight = torch.zeros(len(images), num_classes), 0.0
        for about, learner in zip(self.description["learners"], self.learners, strict=True):
            if task_id in about["tasks"]:
                head, vote = about["tasks"].index(task_id), about["votes"][str(task_id)]
                device = learner.heads.weight.device
                for batch, sums in zip(images.split(PREDICTION_BATCH), total.split(PREDICTION_BATCH), strict=True):
                    sums += vote * learner.probabilities(batch.to(device), head)
                weight += vote
        return total / weight if weight else torch.full_like(total, 1 / num_classes)
