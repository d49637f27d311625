"""One lane in a process of its own: ``python -m benchmarks.child KIND THREADS DATA_DIR STEPS``.

``plain`` is the small conv net as one would first write it: NCHW memory, ReLU before pooling, SGD not fused, memory as
the system gives it. ``loop`` is the program's own training. Each prints images a second.
"""

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

from benchmarks.lanes import BATCH, NUM_HEADS, command, load_tasks, program_loop, set_threads


def plain_net() -> nn.Sequential:
    """The small conv net for 32 x 32 colour images with one head of five classes."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 80, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(80, 80, 3), nn.BatchNorm2d(80), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(80, 80, 3), nn.BatchNorm2d(80), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Flatten(),
        nn.Linear(320, 5),
    )


def plain_steps() -> Iterator[int]:
    """Training steps of it on one resident minibatch."""
    net = plain_net()
    optimizer = torch.optim.SGD(
        net.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-5, foreach=False
    )
    images, labels = torch.randn(BATCH, 3, 32, 32), torch.arange(BATCH) % NUM_HEADS
    for done in itertools.count(1):
        loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield done


def main() -> None:
    """Time the lane that the command line names."""
    kind, threads, data_dir, count = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    if kind == "plain":
        torch.set_num_threads(threads)
        steps = plain_steps()
    else:
        set_threads(threads)
        grow = command("conv", data_dir)
        steps = program_loop(grow, load_tasks(grow.settings, grow.options, torch.device("cpu")), augmented=True)
    for _ in itertools.islice(steps, 20):
        pass
    began = time.perf_counter()
    for _ in itertools.islice(steps, count):
        pass
    print(count * BATCH / (time.perf_counter() - began))


if __name__ == "__main__":
    main()
