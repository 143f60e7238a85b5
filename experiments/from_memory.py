"""How much a memory is worth alone: a new model trained on its rows and nothing else.

A. Prabhu, P. H. S. Torr, P. K. Dokania, GDumb: a simple approach that questions our
progress in continual learning, ECCV 2020.
"""

from statistics import fmean
from typing import Any

import torch
from avalanche.models.utils import avalanche_forward
from torch.utils.data import DataLoader

from experiments.benchmarks import Benchmark
from experiments.errors import UserError

_BATCH = 10
_EVALUATED = 256


def accuracy_from_memory(
    model: torch.nn.Module, memory: Any, benchmark: Benchmark, epochs: int, seed: int
) -> float:
    """The average accuracy of a model trained on a memory's rows, a fraction.

    SGD with learning rate 0.05, momentum 0.9 and batches of 10, which serve networks as
    small as a memory of tens of rows a class can fill; the same for all memories.

    :param model: new; it is trained.
    :param memory: a storage policy of Avalanche.
    :param seed: of the order of rows.
    :return: the mean over test experiences.
    :raises UserError: for a memory without rows, or no epochs.
    """
    if epochs < 1 or not len(memory.buffer):
        raise UserError(
            f"nothing to train on from the memory alone: {len(memory.buffer)} rows, "
            f"{epochs} epochs; use 1 or more of each"
        )
    device = next(model.parameters()).device
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    rows = DataLoader(
        memory.buffer,
        batch_size=_BATCH,
        shuffle=True,
        generator=torch.Generator().manual_seed(seed),
    )
    batches: Any = rows.batch_sampler
    held = next(iter(DataLoader(memory.buffer, batch_size=len(memory.buffer))))
    model.train()
    for _ in range(epochs):
        for index in batches:
            x, y, *task = (item[index].to(device) for item in held)
            optimizer.zero_grad()
            output = avalanche_forward(model, x, task[-1] if task else None)
            torch.nn.functional.cross_entropy(output, y).backward()
            optimizer.step()
    model.eval()
    return fmean(_accuracy(model, e.dataset.eval(), device) for e in benchmark.test)


@torch.no_grad()
def _accuracy(model: torch.nn.Module, dataset: Any, device: torch.device) -> float:
    right = 0
    for items in DataLoader(dataset, batch_size=_EVALUATED):
        x, y, *task = (item.to(device) for item in items)
        output = avalanche_forward(model, x, task[-1] if task else None)
        right += int((output.argmax(1) == y).sum())
    return right / len(dataset)
