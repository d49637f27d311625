"""Model Zoo (Ramesh and Chaudhari, ICLR 2022): a zoo of small networks, each trained on a few tasks picked by boosting.

    repeat, a round a learner:
        L_t = mean negative log-likelihood of the zoo's prediction on the training examples of task t
        w_t = clip(exp((L_t - mean L) / mean L), 1e-4, 1e3)
        draw tasks without replacement, with probability w_t / sum w   (continual mode: the new task, and past tasks)
        train one small network with a head for each drawn task, on their examples together
        the zoo's prediction on a task is the mean over the learners that were trained on it

The class ModelZoo is the method; below it is the command line: python modelzoo.py --help
"""

import contextlib
import itertools
import sys
import warnings
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

for other in map(sys.modules.get, ("baselines", "datasets", "net", "utils")):
    if other and Path(__file__).resolve().parent not in Path(other.__file__ or "/").resolve().parents:
        raise ImportError(f"{other} is in the place of modelzoo's own; restart Python, and import modelzoo without it")
sys.path.insert(0, str(Path(__file__).resolve().parent))  # python -P and -I leave it out

import numpy as np
import torch
from torch import Tensor

from baselines import AveragedGem, ElasticWeights, ExperienceReplay, OneNetwork
from datasets.build_dataset import build_dataset
from datasets.custom import read_image
from datasets.data import Minibatches, Task, replay_repeats, replay_subset
from net.average import PREDICTION_BATCH, Average, Probabilities, accuracy, predict
from net.build_net import build_net
from net.multihead import MultiHead
from net.saved_zoo import SavedZoo
from utils.checkpoint import first_change, with_data_of
from utils.command_line import Grow, Use, command_line, command_to_resume, read_command
from utils.config import Settings, settings_to_yaml
from utils.device import (
    check_compiler,
    describe_device,
    describe_invocation,
    is_out_of_memory,
    seconds_each,
    set_up_process,
)
from utils.errors import StopSignal, UserError
from utils.logger import Progress, Screen, open_screens
from utils.method import Method
from utils.rounds import Record, Round, RoundSize, TaskInfo, ZooInfo, plan_table, table, time_estimate
from utils.run_folder import RunFolder, read_finished_run, settings_of
from utils.run_net import Training, diverged
from utils.seeding import generator

# ---------------------------------------------------------------------------------------------------------------------
# The method


def boosting_weights(losses: Sequence[float]) -> np.ndarray:
    """w = clip(exp((L - mean L) / mean L), 1e-4, 1e3): the worse the zoo fits a task, the likelier it is drawn.

    All weights are 1 if the mean loss is 0.
    """
    loss = np.asarray(losses)
    mean = loss.mean()
    if mean == 0:
        return np.ones_like(loss)
    return np.clip(np.exp(np.minimum((loss - mean) / mean, 10)), 1e-4, 1e3)


class ModelZoo(Method):
    """Boosting over tasks: ``grow`` is the algorithm, and each line of its loop is a method below.

    For each learner the zoo keeps only the predictions that it made when it joined, so a round's cost does not depend
    on the size of the zoo.

    Attributes:
        allowed: By task id: which training examples may still be used, positions in ``task.train``, int64 ``[M]``.
        train: By task id: the zoo's prediction on those examples.
        test: By task id: the zoo's prediction on the test examples.
    """

    name = "modelzoo"
    tasks: Sequence[Task]

    def __init__(self, tasks: Sequence[Task], settings: Settings, *, compiled: bool = False):
        super().__init__(tasks, settings, compiled=compiled)
        self.allowed: dict[int, Tensor] = {}
        self.train: dict[int, Average] = {}
        self.test: dict[int, Average] = {}

    @property
    def new_task(self) -> int | None:
        """The task that arrives with this round; None in multi-task mode."""
        return self.round_id if self.settings.continual else None

    def grow(self) -> Iterator[Round | str]:
        """Grow the zoo, a learner a round; see ``Method.grow``."""
        while self.round_id < self.settings.total_rounds:
            self.meet_tasks()
            chosen, weights = self.draw_tasks()
            self.training = self.begin_training(chosen)
            for _ in self.training.steps():
                yield "training"
            probabilities = yield from self.predict(self.training, chosen)
            votes = self.add(probabilities)
            done = Round(self.record(self.training, weights, probabilities), votes, self.training.network)
            self.round_id, self.training = self.round_id + 1, None
            yield done

    def meet_tasks(self) -> None:
        """Add the tasks that arrive now, and drop those examples of the previous task that may not be replayed."""
        for task in self.tasks if self.new_task is None else [self.tasks[self.new_task]]:
            if task.task_id not in self.allowed:
                self.allowed[task.task_id] = torch.arange(len(task.train))
                self.train[task.task_id] = Average.empty(task.train.labels, task.num_classes)
                self.test[task.task_id] = Average.empty(task.test.labels, task.num_classes)
        if self.settings.replay_frac < 1 and self.round_id > 0:
            past = self.round_id - 1
            random = generator(self.settings.seed, "replay", past)
            subset = replay_subset(self.tasks[past].train.labels, self.settings.replay_frac, random)
            kept = torch.isin(self.allowed[past], subset)
            self.allowed[past], self.train[past] = self.allowed[past][kept], self.train[past].keep(kept)

    def draw_tasks(self) -> tuple[list[int], dict[int, float]]:
        """Draw the tasks of this round's learner.

        Returns:
            The tasks, ascending, and the weight of each task that could be drawn (none if nothing is drawn).
        """
        new = [] if self.new_task is None else [self.new_task]
        candidates = [t for t in self.allowed if t not in new and len(self.allowed[t])]
        if self.settings.warm_start and self.round_id == 0:
            return candidates, {}
        num_drawn = min(self.settings.max_per_round - len(new), len(candidates))
        if num_drawn == 0:
            return new, {}
        weights = np.ones(len(candidates)) if self.settings.naive else boosting_weights(self.losses(candidates))
        drawn = torch.multinomial(torch.from_numpy(weights), num_drawn, generator=self.random("draw"))
        return sorted([*new, *(candidates[i] for i in drawn)]), dict(zip(candidates, weights.tolist(), strict=True))

    def losses(self, task_ids: Sequence[int]) -> list[float]:
        """The zoo's loss on the training examples of each task that may still be used."""
        return [loss for t in task_ids if (loss := self.train[t].loss()) is not None]

    def round_size(self, chosen: list[int]) -> RoundSize:
        """The size of this round, with the chosen tasks."""
        num_predicted = sum(len(self.allowed[t]) + len(self.tasks[t].test) for t in chosen)
        return RoundSize(len(chosen), sum(map(len, self.examples(chosen))), num_predicted)

    def begin_training(self, chosen: list[int]) -> Training[MultiHead]:
        """Prepare the training of a fresh learner on all examples of the chosen tasks together."""
        examples = Minibatches([self.tasks[t] for t in chosen], self.examples(chosen), self.settings, self.round_id)
        return self.train_network(self.build_learner(chosen), examples)

    def build_learner(self, chosen: list[int]) -> MultiHead:
        """A network with a head for each chosen task, on the same device as the images."""
        first, recipe = self.tasks[chosen[0]], self.settings.recipe
        num_classes = [self.tasks[t].num_classes for t in chosen]
        net = build_net(recipe.model, first.image_shape, num_classes, dropout=recipe.dropout, seed=self.seed("init"))
        return net.to(first.train.images.device)

    def examples(self, chosen: list[int]) -> list[Tensor]:
        """The training examples of each chosen task, positions in ``task.train``: all that may be used.

        Under limited replay the past tasks' examples are repeated, so that together they weigh at least as much as the
        new task's.
        """
        rows = {t: self.allowed[t] for t in chosen}
        past = [t for t in chosen if t != self.new_task]
        if self.settings.replay_frac < 1 and past:
            repeats = max(1.0, len(rows[self.round_id]) / sum(len(rows[t]) for t in past))
            for t in past:
                rows[t] = rows[t][replay_repeats(self.train[t].labels, repeats, self.random("repeats", t))]
        return list(rows.values())

    def predict(self, training: Training[MultiHead], chosen: list[int]) -> Generator[str, None, Probabilities]:
        """A trained learner's class probabilities on the training and test examples of its tasks, computed once."""
        probabilities = {}
        for head, t in enumerate(chosen):
            train, test = self.tasks[t].train, self.tasks[t].test
            rows = train.rows[self.allowed[t].to(train.rows.device)]
            on_train, on_test = (torch.empty_like(average[t].total) for average in (self.train, self.test))
            yield from predict(training.network, head, train.images, rows, on_train)
            yield from predict(training.network, head, test.images, test.rows, on_test)
            if not (torch.isfinite(on_train).all() and torch.isfinite(on_test).all()):
                raise diverged(training.name, training.num_epochs - 1)
            probabilities[t] = on_train, on_test
        return probabilities

    def add(self, probabilities: Probabilities) -> dict[int, float]:
        """Add a learner's class probabilities to the zoo's; returns its vote on each of its tasks."""
        # Under limited replay only a task's first learner saw all of its data, so its vote is larger.
        first_vote = 1 / self.settings.replay_frac if self.settings.replay_frac > 0 else 1.0
        votes = {t: 1.0 if self.train[t].votes else first_vote for t in probabilities}
        for t, (on_train, on_test) in probabilities.items():
            self.train[t].add(on_train, votes[t])
            self.test[t].add(on_test, votes[t])
        return votes

    def record(self, training: Training[MultiHead], weights: dict[int, float], probabilities: Probabilities) -> Record:
        """The round's record: the zoo's losses and accuracies on all tasks seen, and the new learner's own accuracy."""
        seen = sorted(self.allowed)
        is_replayed = self.settings.continual and self.settings.max_per_round > 1
        return Record(
            round=self.round_id,
            tasks=list(probabilities),
            weights=weights,
            scored_on=self.settings.scored_on,
            train_loss={t: self.train[t].loss() for t in seen},
            train_accuracy={t: self.train[t].accuracy() for t in seen},
            loss={t: self.test[t].loss() for t in seen},
            accuracy={t: self.test[t].accuracy() for t in seen},
            epoch_loss=training.epoch_loss,
            learner_accuracy={t: accuracy(on_test, self.test[t].labels) for t, (_, on_test) in probabilities.items()},
            num_parameters=training.network.num_parameters,
            images_trained=training.num_images,
            images_stored=sum(len(self.allowed[t]) for t in seen if t != self.new_task) if is_replayed else 0,
        )

    def state_dict(self) -> dict[str, Any]:
        """All that ``load_state_dict`` needs, bit for bit. Raises UserError if the training is not finite."""
        return super().state_dict() | {
            "allowed": self.allowed,
            "train": {t: (average.total, average.votes) for t, average in self.train.items()},
            "test": {t: (average.total, average.votes) for t, average in self.test.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where ``state_dict`` was taken."""
        super().load_state_dict(state)
        self.allowed = state["allowed"]
        for t, rows in self.allowed.items():
            self.train[t] = Average(self.tasks[t].train.labels.cpu()[rows], *state["train"][t])
            self.test[t] = Average(self.tasks[t].test.labels.cpu(), *state["test"][t])


# ---------------------------------------------------------------------------------------------------------------------
# The command line

# The one table of methods; their names and settings stand in utils/config.py.
METHOD_CLASSES: dict[str, type[Method]] = {
    method.name: method for method in (ModelZoo, OneNetwork, ElasticWeights, AveragedGem, ExperienceReplay)
}


def describe_zoo(tasks: Sequence[Task], settings: Settings) -> ZooInfo:
    """What the zoo's users need to know beside its learners: the network, the shape of the images, and the tasks."""
    infos = [TaskInfo(task_id=t.task_id, name=t.name, classes=t.class_names, fingerprint=t.fingerprint) for t in tasks]
    return ZooInfo(model=settings.recipe.model, image_shape=tasks[0].image_shape, tasks=tuple(infos))


def grow(command: Grow, argv: list[str], device: torch.device, screen: Screen, stop: StopSignal) -> None:
    """Grow a zoo, or resume one, in its run folder; prints a line for each round and a closing table."""
    with RunFolder(command.settings, command.options, screen) as folder:
        if folder.complete:
            screen.say(read_finished_run(folder.path).closing_table())
            return
        settings, method_class = folder.settings, METHOD_CLASSES[folder.settings.method]
        tasks = build_dataset(settings, command.options, device)
        compiled, precision = command.options.compile, settings.recipe.precision
        method = method_class(tasks, settings, compiled=compiled)
        learner = method.build_learner([0])  # before a folder is made
        if settings.recipe.dropout > 0 and not any(isinstance(part, torch.nn.Dropout) for part in learner.modules()):
            screen.warn(f"dropout {settings.recipe.dropout}: the network {settings.recipe.model} has no dropout")
        invocation = describe_invocation(command_line(argv), device, precision, compiled=compiled)
        folder.begin(method, describe_zoo(tasks, settings), invocation)
        stop.defer()
        with Progress(screen, method_class(tasks, settings).plan(), settings) as progress:
            for event in method.grow():
                folder.keep(event, method)
                progress.show(method)
                if stop.received:
                    folder.save(method)
                    again = f"to go on: {command_to_resume(argv)}"
                    raise UserError(f"stopped by a signal, the state is saved; {again}", exit_status=3)
        folder.finish(method)
        results = read_finished_run(folder.path).closing_table()
        screen.say(f"{results}\nwritten to {folder.path}; the figure is {folder.path / 'accuracy.png'}")


def dry_run(command: Grow, device: torch.device, screen: Screen) -> None:
    """Check everything, print the settings, the plan and the time it may take; write nothing."""
    settings, method_class = command.settings, METHOD_CLASSES[command.settings.method]
    tasks = build_dataset(settings, command.options, device)
    training = method_class(tasks, settings, compiled=command.options.compile).last_training()
    plan = list(method_class(tasks, settings).plan())
    screen.say(f"{settings_to_yaml(settings)}\n{plan_table(plan)}")
    train_sec = seconds_each(training.steps(), device) / min(settings.recipe.batch, plan[-1].num_train)
    test, num_classes = tasks[0].test, training.network.num_classes[0]  # any images: only the time counts
    predicting = predict(training.network, 0, test.images, test.rows, torch.empty(len(test), num_classes))
    predict_sec = seconds_each(predicting, device) / min(PREDICTION_BATCH, len(test))
    estimate = time_estimate(plan, settings.epochs, train_sec=train_sec, predict_sec=predict_sec)
    screen.say(f"on {describe_device(device)}:\n{estimate}")
    if device.type == "cuda":
        screen.say(compare_precisions(settings, tasks, device))


def compare_precisions(settings: Settings, tasks: Sequence[Task], device: torch.device) -> str:
    """The time of a training step in each precision, without ``--compile`` and, if torch can compile, with it."""
    rows, compiles = [], [False]
    with contextlib.suppress(UserError):
        check_compiler(device)
        compiles.append(True)
    for precision, compiled in itertools.product(("fp32", "tf32", "bf16", "fp16"), compiles):
        recipe = settings.recipe.model_copy(update={"precision": precision})
        other = settings.model_copy(update={"recipe": recipe})
        training = METHOD_CLASSES[settings.method](tasks, other, compiled=compiled).last_training()
        milliseconds = 1000 * seconds_each(training.steps(), device)
        rows.append((milliseconds, f"--precision {precision}" + " --compile" * compiled))
    return table(sorted(rows), ["ms a training step", "with (the fastest first)"], floatfmt=".2f")


def evaluate(command: Use, device: torch.device, screen: Screen) -> bool:
    """Print test accuracies of a grown zoo beside those in ``run.json``; returns whether all are equal."""
    run_dir = command.run_dir
    settings, saved = with_data_of(settings_of(run_dir), command.data_from), read_finished_run(run_dir).accuracy[-1]
    zoo = SavedZoo.load(run_dir, device=device)
    if len(zoo.info.tasks) != len(saved):
        raise UserError(f"{run_dir}: expected {len(saved)} tasks in zoo/zoo.json, got {len(zoo.info.tasks)}")
    tasks = build_dataset(settings, command.options, device)
    if changed := first_change(zoo.info.tasks, describe_zoo(tasks, settings).tasks):
        screen.say(f"the data are not those of the run: {changed}")
        return False
    rows = []
    for task, before in zip(tasks, saved, strict=True):
        if before is not None:  # the task has arrived
            now = zoo.average(task.test.images, task.test.rows, task.test.labels, task.task_id).accuracy()
            equal = now is not None and abs(now - before) < 1e-9
            rows.append((task.task_id, task.name, before, now, "" if equal else "DIFFERS"))
    num_equal = sum(row[-1] == "" for row in rows)
    screen.say(table(rows, ["task", "name", "saved", "now", ""], floatfmt=".2%", disable_numparse=[1]))
    screen.say(f"{num_equal} of {len(rows)} tasks as in {run_dir / 'run.json'}")
    return num_equal == len(rows)


def predict_files(command: Use, device: torch.device, screen: Screen) -> None:
    """Print the class that a grown zoo gives to each image file, with its probability."""
    zoo = SavedZoo.load(command.run_dir, device=device)
    task_id = zoo.task_id(command.task)
    channels, height, width = zoo.info.image_shape
    images = [read_image(path, size=(height, width), channels=channels) for path in command.images]
    probabilities = zoo.predict(torch.stack(images), task_id)
    guess = "" if zoo.num_learners(task_id) else "no learner: a guess"
    highest, labels = probabilities.max(dim=1)
    classes = [zoo.info.tasks[task_id].classes[label] for label in labels]
    rows = [(*row, guess) for row in zip(command.images, highest.tolist(), classes, strict=True)]
    screen.say(table(rows, ["file", "probability", "class", ""], floatfmt=".2%", disable_numparse=[0, 2]))


def run_command(command: Grow | Use, argv: list[str], screen: Screen, stop: StopSignal) -> int:
    """Do what the command line says; returns the exit status."""
    device = set_up_process(command.options)
    if isinstance(command, Use) and command.images:
        predict_files(command, device, screen)
    elif isinstance(command, Use):
        return 0 if evaluate(command, device, screen) else 1
    elif command.options.check_data:
        build_dataset(command.settings, command.options, device)
    elif command.options.dry_run:
        dry_run(command, device, screen)
    else:
        grow(command, argv, device, screen, stop)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    open_screens()
    stop, screen = StopSignal(), Screen()
    warnings.showwarning = lambda message, *_: screen.warn(str(message))
    try:
        return run_command(read_command(argv), argv, screen, stop)
    except UserError as error:
        screen.fail(str(error))
        return error.exit_status
    except (OSError, Warning) as error:  # no room, no permission; a warning is raised under python -W error alone
        screen.fail(f"{error}; what was saved before is kept")
        return 2
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        screen.fail("out of memory; try a smaller --batch; what was saved before is kept")
        return 2
    except KeyboardInterrupt:
        screen.fail(f"stopped by a signal; nothing was saved; to start again: {command_line(argv)}")
        return 3


if __name__ == "__main__":
    sys.exit(main())
