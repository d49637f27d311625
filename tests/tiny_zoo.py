"""Zoos of seconds, grown without a run folder, for tests of the method itself."""

import torch

from datasets.data import Augmentation, ImageData, cut_tasks
from modelzoo import ModelZoo
from tests.small_runs import FOUR_TASKS, class_images, digest, settings
from utils.rounds import Round


def make_tasks(classes=FOUR_TASKS, *, per_class=6, augmentation=None, seed=0):
    """Tasks on images that ``class_images`` makes; class c has ``per_class`` training images, or the c-th of a list."""
    num_classes = 1 + max(class_id for task in classes for class_id in task)
    counts = [per_class] * num_classes if isinstance(per_class, int) else per_class
    parts = [torch.from_numpy(class_images(c, counts[c] + 5, seed=seed)) for c in range(num_classes)]
    data = ImageData(
        torch.cat([part[5:] for part in parts]),
        torch.repeat_interleave(torch.tensor(counts)),
        torch.cat([part[:5] for part in parts]),
        torch.repeat_interleave(torch.full((num_classes,), 5)),
        tuple(f"class {c}" for c in range(num_classes)),
    )
    return cut_tasks(data, classes, settings(classes), augmentation or Augmentation())


def grown(tasks, chosen):
    """The rounds of a zoo that was grown to the end."""
    return [event for event in ModelZoo(tasks, chosen).grow() if isinstance(event, Round)]


def records(tasks, chosen):
    return [event.record for event in grown(tasks, chosen)]


def at_round(round_id, tasks, chosen, *, losses=None):
    """A zoo as a round begins, its learners' training left out; by task id the training losses that it is to have."""
    zoo = ModelZoo(tasks, chosen)
    for zoo.round_id in range(round_id + 1):
        zoo.meet_tasks()
    if losses:
        zoo.losses = lambda task_ids: [losses[task_id] for task_id in task_ids]
    return zoo


def weights_digest(learner):
    return digest(learner.state_dict().items())


def recomputed(events, tasks, task_id, part):
    """Mean loss and accuracy of the weighted average of the saved learners' probabilities, from scratch."""
    split = getattr(tasks[task_id], part)
    total, weight = 0.0, 0.0
    for event in events:
        if task_id in event.record.tasks:
            head = event.record.tasks.index(task_id)
            vote = event.votes[task_id]
            total = total + vote * event.learner.probabilities(split.images[split.rows], head).double()
            weight += vote
    probabilities = total / weight
    likelihood = probabilities[torch.arange(len(split)), split.labels].clamp(min=1e-12)
    return float(-likelihood.log().mean()), float((probabilities.argmax(dim=1) == split.labels).double().mean())
