"""Model Zoo (Ramesh and Chaudhari, ICLR 2022): a zoo of small networks, each trained on a few tasks picked by boosting.

First the method, which takes values and gives values; then the command line, which reads and writes.

    python modelzoo.py --help
"""

import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from datasets.build_dataset import build_dataset
from datasets.custom import read_image
from datasets.data import (
    Augmentation,
    DataError,
    Minibatches,
    Split,
    Task,
    plain_batches,
    replay_repeats,
    replay_subset,
)
from net.build_net import NetError, build_net
from net.multihead import MultiHead
from net.zoo import PREDICTION_BATCH, ModelZoo
from utils import logger
from utils.checkpoint import RunFolderError
from utils.config import ConfigError, Evaluate, Grow, Options, Predict, Settings, read_command, settings_to_yaml
from utils.plan import TaskSize, plan_rounds, plan_table, seconds_each, time_estimate
from utils.run_folder import (
    Interrupted,
    RunFolder,
    StopSignal,
    check_free,
    command_to_resume,
    examine,
    locked,
    settings_of,
)
from utils.run_net import (
    DeviceError,
    DivergedError,
    Training,
    choose_device,
    describe_device,
    is_out_of_memory,
    set_up_process,
    synchronise,
)
from utils.seeding import ambient_seed, child_seed, generator

# ---------------------------------------------------------------------------------------------------------------------
# The method


@dataclass
class RunningAverage:
    """The class probabilities of a task, summed over its learners as they come: a round costs the same in any zoo.

    Attributes:
        rows: the training examples that may still be used, positions in ``task.train``, int64 ``[M]``.
        train: weighted sum of the learners' probabilities on these, float32 ``[M, K]``.
        test: the same on the test examples.
        weight: sum of the weights; 0 while the task has no learner.
    """

    rows: Tensor
    train: Tensor
    test: Tensor
    weight: float = 0.0

    @classmethod
    def of(cls, task: Task) -> "RunningAverage":
        """That of a task without a learner."""
        num_train, num_test = len(task.train), len(task.test)
        sums = torch.zeros(num_train, task.num_classes), torch.zeros(num_test, task.num_classes)
        return cls(torch.arange(num_train), *sums)

    def add(self, train: Tensor, test: Tensor, weight: float) -> None:
        """Count in one more learner's probabilities."""
        self.train += weight * train
        self.test += weight * test
        self.weight += weight

    def keep(self, rows: Tensor) -> None:
        """Forget all training examples but these."""
        kept = torch.isin(self.rows, rows)
        self.rows, self.train = self.rows[kept], self.train[kept]

    def loss_and_accuracy(self, part: str, split: Split) -> tuple[float | None, float | None]:
        """Mean negative log-likelihood of the average, and its accuracy; None for both where nothing may be used.

        A task without a learner is predicted uniformly: loss log K, accuracy 1 / K.
        """
        total = self.train if part == "train" else self.test
        labels = split.labels.cpu()[self.rows] if part == "train" else split.labels.cpu()
        assert len(total) == len(labels), "every example has a prediction"
        if len(labels) == 0:
            return None, None
        if self.weight == 0:
            return float(np.log(total.shape[1])), 1 / total.shape[1]
        likelihood = total.gather(1, labels[:, None]).double() / self.weight
        accuracy = (total.argmax(dim=1) == labels).double().mean()
        return float(-likelihood.clamp(1e-12, 1).log().mean()), float(accuracy)


def boosting_weights(losses: Sequence[float]) -> np.ndarray:
    """Weights of the tasks that may be drawn, from the zoo's training loss on each: the worse, the heavier.

    w = clip(exp((L - mean L) / mean L), 1e-4, 1e3), and 1 for all where the mean is 0.
    """
    loss = np.asarray(losses)
    mean = loss.mean()
    if mean == 0:
        return np.ones_like(loss)
    return np.clip(np.exp(np.minimum((loss - mean) / mean, 10)), 1e-4, 1e3)


class Draw(NamedTuple):
    """The tasks of a round, ascending, and the weight of each task that could be drawn (none where none was)."""

    tasks: list[int]
    weights: dict[int, float]


def draw_tasks(round_id: int, settings: Settings, losses: dict[int, float], random: torch.Generator) -> Draw:
    """Choose the tasks that the learner of a round is trained on.

    Args:
        round_id: in continual mode also the id of the task that it brings.
        settings: of the run.
        losses: the zoo's training loss on each task that may be drawn; past tasks only, in continual mode.
        random: the round's own.
    """
    if settings.warm_start and round_id == 0:
        return Draw(sorted(losses), {})
    new = [round_id] if settings.continual else []
    count = min(settings.tasks_per_round - len(new), len(losses))
    if count == 0:
        return Draw(new, {})
    weights = np.ones(len(losses)) if settings.naive else boosting_weights(list(losses.values()))
    drawn = torch.multinomial(torch.from_numpy(weights), count, replacement=False, generator=random)
    candidates = list(losses)
    return Draw(sorted([*(candidates[i] for i in drawn), *new]), dict(zip(candidates, weights.tolist(), strict=True)))


def learner_examples(
    round_id: int, chosen: list[int], tasks: Sequence[Task], averages: dict[int, RunningAverage], settings: Settings
) -> Minibatches:
    """The training examples of a round's learner: all of a new task, of past tasks what may still be used.

    Under limited replay each example of the past is repeated r times, so that past tasks together weigh as much as
    the new one, if they would weigh less.
    """
    named = partial(generator, settings.seed)
    positions = {task_id: averages[task_id].rows for task_id in chosen}
    past = [task_id for task_id in chosen if task_id != round_id]
    if settings.replay_frac < 1 and past:
        repeats = max(1.0, len(positions[round_id]) / sum(len(positions[task_id]) for task_id in past))
        for task_id in past:
            rows = positions[task_id]
            labels = tasks[task_id].train.labels.cpu()[rows]
            positions[task_id] = rows[replay_repeats(labels, repeats, named("round", round_id, "repeats", task_id))]
    plain = settings.epochs == 1 or settings.recipe.augment == "none"
    return Minibatches(
        [tasks[task_id] for task_id in chosen],
        [positions[task_id] for task_id in chosen],
        batch_size=settings.recipe.batch,
        augmentation=Augmentation() if plain else tasks[0].augmentation,
        named=partial(named, "round", round_id),
    )


def new_learner(round_id: int, chosen: list[int], tasks: Sequence[Task], settings: Settings) -> MultiHead:
    """A network with a head for each chosen task and the initial weights of this round, where the images are."""
    with ambient_seed(child_seed(settings.seed, "round", round_id, "init")):
        learner = build_net(
            settings.recipe.model,
            image_shape=tasks[0].image_shape,
            num_classes=[tasks[task_id].num_classes for task_id in chosen],
            dropout=settings.recipe.dropout,
        )
    return learner.to(memory_format=torch.channels_last).to(tasks[0].train.images.device)


def new_training(
    round_id: int, learner: MultiHead, examples: Minibatches, settings: Settings, *, compiled: bool
) -> Training:
    """The training of a round's learner by the recipe."""
    return Training(
        learner,
        examples,
        num_epochs=settings.epochs,
        dropout_seed=child_seed(settings.seed, "round", round_id, "dropout"),
        name=f"round {round_id}",
        compiled=compiled,
        **settings.recipe.model_dump(include={"lr", "momentum", "nesterov", "l2_reg", "schedule", "precision"}),
    )


def arrivals(
    round_id: int, tasks: Sequence[Task], averages: dict[int, RunningAverage], settings: Settings
) -> dict[int, float]:
    """Bring in the tasks that arrive with a round, and forget what may not be used again of those of the past.

    Returns:
        The zoo's training loss on each task that may be drawn.
    """
    if settings.continual:
        past = range(round_id)
        averages.setdefault(round_id, RunningAverage.of(tasks[round_id]))
    else:
        past = range(len(tasks))
        for task in tasks:
            averages.setdefault(task.task_id, RunningAverage.of(task))
    losses = {}
    for task_id in past:
        train = tasks[task_id].train
        if settings.replay_frac < 1:
            random = generator(settings.seed, "replay", task_id)
            averages[task_id].keep(replay_subset(train.labels, settings.replay_frac, random))
        loss, _ = averages[task_id].loss_and_accuracy("train", train)
        if loss is not None:
            losses[task_id] = loss
    return losses


class Step(NamedTuple):
    """A minibatch was done, of training or, once that is complete, of predictions."""

    round_id: int
    training: Training


class Round(NamedTuple):
    """A learner joined the zoo; ``votes`` are the weights of its probabilities, by task."""

    record: logger.Record
    learner: MultiHead
    votes: dict[int, float]


def grow_zoo(
    tasks: Sequence[Task],
    settings: Settings,
    averages: dict[int, RunningAverage],
    *,
    first_round: int = 0,
    training_state: dict[str, Any] | None = None,
    compiled: bool = False,
) -> Iterator[Step | Round]:
    """Add a learner a round. Writes nothing; a caller may stop at any event and go on from there another time.

    Args:
        tasks: of the benchmark. In continual mode those that have not arrived are not looked at.
        settings: of the run.
        averages: of the tasks seen, brought up to date each round.
        first_round: rounds done before.
        training_state: of the learner in hand at the last stop.
        compiled: whether learners are compiled.

    Raises:
        DivergedError: a learner's loss is not finite.
    """
    for round_id in range(first_round, settings.num_rounds):
        losses = arrivals(round_id, tasks, averages, settings)
        draw = draw_tasks(round_id, settings, losses, generator(settings.seed, "round", round_id, "draw"))
        learner = new_learner(round_id, draw.tasks, tasks, settings)
        examples = learner_examples(round_id, draw.tasks, tasks, averages, settings)
        training = new_training(round_id, learner, examples, settings, compiled=compiled)
        if training_state is not None:
            training.load_state_dict(training_state)
            training_state = None
        for _ in training.steps():
            yield Step(round_id, training)

        predictions: dict[tuple[int, str], Tensor] = {}
        for head, task_id in enumerate(draw.tasks):
            task, rows = tasks[task_id], averages[task_id].rows
            for part, split, positions in (
                ("train", task.train, rows),
                ("test", task.test, torch.arange(len(task.test))),
            ):
                # Made before, and filled: pieces that stayed among the batches' buffers would break up the memory.
                predictions[task_id, part] = torch.empty(len(positions), task.num_classes)
                batches = plain_batches(split, positions, batch_size=PREDICTION_BATCH)
                for images, filled in zip(batches, predictions[task_id, part].split(PREDICTION_BATCH), strict=True):
                    filled.copy_(learner.probabilities(images, head))
                    yield Step(round_id, training)
        votes = {}
        for task_id in draw.tasks:
            # Under limited replay a task's first learner alone saw all of its data.
            votes[task_id] = 1.0 if averages[task_id].weight else 1 / (settings.replay_frac or 1.0)
            averages[task_id].add(predictions[task_id, "train"], predictions[task_id, "test"], votes[task_id])
        yield Round(make_record(round_id, draw, tasks, averages), learner, votes)


def make_record(round_id: int, draw: Draw, tasks: Sequence[Task], averages: dict[int, RunningAverage]) -> logger.Record:
    """The zoo after a round, as ``rounds.jsonl`` has it: keys are task ids as text, values plain numbers."""
    seen = sorted(averages)
    train = {str(t): averages[t].loss_and_accuracy("train", tasks[t].train) for t in seen}
    test = {str(t): averages[t].loss_and_accuracy("test", tasks[t].test) for t in seen}
    return {
        "round": round_id,
        "tasks": draw.tasks,
        "weights": {str(task_id): weight for task_id, weight in draw.weights.items()},
        "train_loss": {task_id: loss for task_id, (loss, _) in train.items()},
        "train_accuracy": {task_id: accuracy for task_id, (_, accuracy) in train.items()},
        "test_loss": {task_id: loss for task_id, (loss, _) in test.items()},
        "test_accuracy": {task_id: accuracy for task_id, (_, accuracy) in test.items()},
    }


# ---------------------------------------------------------------------------------------------------------------------
# The command line


def load_tasks(settings: Settings, options: Options, device: torch.device) -> list[Task]:
    """The benchmark's tasks, their images on the device; a dry run leaves no file behind. Raises DataError."""
    return build_dataset(
        task_names=settings.benchmark.names,
        samples=settings.samples,
        data_dir=options.data_dir,
        download=not (options.no_download or options.dry_run),
        keep=not options.dry_run,
        device=device,
        named=partial(generator, settings.seed),
        **settings.benchmark.model_dump(exclude={"task_names"}),
    )


def sizes_of(tasks: Sequence[Task]) -> list[TaskSize]:
    """The number of examples of each task."""
    return [TaskSize(len(task.train), len(task.test)) for task in tasks]


def describe_zoo(tasks: Sequence[Task], settings: Settings) -> dict[str, Any]:
    """What the zoo's users need to know of it, beside its learners."""
    return {
        "model": settings.recipe.model,
        "image_shape": tasks[0].image_shape,
        "tasks": [
            {
                "task_id": task.task_id,
                "name": task.name,
                "classes": list(task.class_names),
                "fingerprint": task.fingerprint,
            }
            for task in tasks
        ],
    }


def train(command: Grow, argv: list[str], device: torch.device, screen: logger.Screen, stop: StopSignal) -> None:
    """Grow a zoo, or go on growing one, in its run folder; prints a line a round and a closing table."""
    options = command.options
    run_dir = options.run_dir or Path("runs") / command.settings.run_name
    check_free(run_dir)
    opening = examine(run_dir, command)
    if opening.complete:
        screen.say(logger.closing_table(opening.state["records"], opening.settings, logger.read_summary(run_dir)))
        return
    if opening.settings.recipe.model == "conv" and opening.settings.recipe.dropout > 0:
        screen.warn(f"dropout {opening.settings.recipe.dropout}: the small conv net has none")
    tasks = load_tasks(opening.settings, options, device)
    new_learner(0, [0], tasks, opening.settings)  # a network that cannot be built leaves no folder behind
    with locked(run_dir):
        opening = examine(run_dir, command)  # again, now that nobody else writes
        settings = opening.settings
        screen.log = run_dir / "log.txt"
        folder = RunFolder(
            run_dir, opening, zoo=describe_zoo(tasks, settings), screen=screen, every_sec=options.checkpoint_every_sec
        )
        folder.begin(argv, device=describe_device(device))
        averages = {task_id: RunningAverage(**values) for task_id, values in folder.averages.items()}
        screen.start_bar([size.num_minibatches(settings) for size in plan_rounds(sizes_of(tasks), settings)])
        stop.defer()
        for event in grow_zoo(
            tasks,
            settings,
            averages,
            first_round=len(folder.records),
            training_state=folder.training,
            compiled=options.compile,
        ):
            stopping = stop.received
            if isinstance(event, Round):
                folder.round(event.record, event.learner, event.votes, averages)
            else:
                folder.step(event.round_id, event.training, averages, save_now=stopping)
                screen.advance(event.round_id, event.training.epoch, event.training.num_done)
            if stopping:
                raise Interrupted(f"stopped by a signal, the state is saved; to go on: {command_to_resume(argv)}")
        screen.stop_bar()
        summary = folder.finish(averages)
        screen.say(logger.closing_table(folder.records, settings, summary))
        screen.say(f"written to {run_dir}; the figure is {run_dir / 'accuracy.png'}")


def rehearse(command: Grow, device: torch.device, screen: logger.Screen) -> None:
    """The dry run: check everything, print the settings, the plan and the time it may take; writes nothing."""
    settings = command.settings
    tasks = load_tasks(settings, command.options, device)
    screen.say(settings_to_yaml(settings))
    plan = plan_rounds(sizes_of(tasks), settings)
    screen.say(plan_table(plan))
    averages = {task.task_id: RunningAverage.of(task) for task in tasks}
    chosen = list(range(plan[-1].num_tasks))
    learner = new_learner(0, chosen, tasks, settings)
    examples = learner_examples(chosen[-1], chosen, tasks, averages, settings)
    training = new_training(0, learner, examples, settings, compiled=command.options.compile)
    wait = partial(synchronise, device)
    train_sec = seconds_each(training.steps(), wait) / min(settings.recipe.batch, len(examples.rows))
    batches = [tasks[0].train.images[tasks[0].train.rows[:PREDICTION_BATCH]]] * 5
    predict_sec = seconds_each((learner.probabilities(images, 0) for images in batches), wait) / len(batches[0])
    screen.say(f"on {describe_device(device)}:")
    screen.say(time_estimate(plan, settings, train_sec=train_sec, predict_sec=predict_sec))


def evaluate(command: Evaluate, device: torch.device, screen: logger.Screen) -> bool:
    """Print the test accuracies of a grown zoo's learners beside those of its summary; gives whether all are equal."""
    run_dir = command.run_dir
    settings, final_accuracy = settings_of(run_dir), logger.read_summary(run_dir)["final_accuracy"]
    zoo = ModelZoo.load(run_dir, device=device)
    num_tasks = len(settings.benchmark.tasks)
    num_seen = settings.num_rounds if settings.continual else num_tasks
    if (len(final_accuracy), len(zoo.description["tasks"])) != (num_seen, num_tasks):
        got = f"{len(final_accuracy)} in summary.json, {len(zoo.description['tasks'])} in zoo/zoo.json"
        raise RunFolderError(f"{run_dir}: expected {num_seen} tasks seen of {num_tasks}, got {got}")
    tasks = load_tasks(settings, command.options, device)[:num_seen]
    screen.say(f"{'task':>4}  {'saved':>8}  {'now':>8}  name")
    num_differing = 0
    for task, saved in zip(tasks, final_accuracy, strict=True):
        probabilities = zoo.predict(task.test.images[task.test.rows], task.task_id)
        accuracy = float((probabilities.argmax(dim=1) == task.test.labels.cpu()).double().mean())
        if zoo.num_learners(task.task_id) == 0:
            accuracy = 1 / task.num_classes
        differs = abs(accuracy - saved) > 1e-9
        num_differing += differs
        screen.say(f"{task.task_id:>4}  {saved:8.2%}  {accuracy:8.2%}  {task.name}{'   DIFFERS' if differs else ''}")
    screen.say(f"{len(tasks) - num_differing} of {len(tasks)} tasks as in {run_dir / 'summary.json'}")
    return num_differing == 0


def classify(command: Predict, device: torch.device, screen: logger.Screen) -> None:
    """Print the class that a grown zoo gives to each image file, with its probability."""
    zoo = ModelZoo.load(command.run_dir, device=device)
    task_id = zoo.task_id(command.task)
    channels, height, width = zoo.description["image_shape"]
    images = [read_image(path, size=(height, width), channels=channels) for path in command.images]
    probabilities = zoo.predict(torch.stack(images), task_id)
    classes = zoo.description["tasks"][task_id]["classes"]
    width = max(len(str(path)) for path in command.images)
    screen.say(f"{'file':<{width}}  {'probability':>11}  class")
    for path, row in zip(command.images, probabilities, strict=True):
        screen.say(f"{path!s:<{width}}  {float(row.max()):11.2%}  {classes[int(row.argmax())]}")


def carry_out(command: Grow | Evaluate | Predict, argv: list[str], screen: logger.Screen, stop: StopSignal) -> int:
    """Do what the command line says; gives the exit status."""
    set_up_process(command.options.threads)
    device = choose_device(command.options.device)
    if isinstance(command, Evaluate):
        return 0 if evaluate(command, device, screen) else 1
    if isinstance(command, Predict):
        classify(command, device, screen)
    elif command.options.dry_run:
        rehearse(command, device, screen)
    else:
        train(command, argv, device, screen, stop)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    stop, screen, command = StopSignal(), logger.Screen(), None
    warnings.showwarning = lambda message, *_: screen.warn(str(message))
    try:
        command = read_command(argv)
        return carry_out(command, argv, screen, stop)
    except (ConfigError, DataError, NetError, DeviceError, RunFolderError, DivergedError) as mistake:
        screen.fail(str(mistake))
        return 2
    except OSError as error:  # no room, no permission
        screen.fail(f"{error}; what was saved before is kept")
        return 2
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        screen.fail("model, batch: expected what fits in memory, got more than there is; what was saved before is kept")
        return 2
    except Interrupted as interrupted:
        screen.fail(str(interrupted))
        return 3
    except KeyboardInterrupt:
        grows = isinstance(command, Grow) and not command.options.dry_run
        again = f" before training began; to start again: {command_to_resume(argv)}" if grows else ""
        screen.fail(f"stopped by a signal{again}")
        return 3


if __name__ == "__main__":
    sys.exit(main())
