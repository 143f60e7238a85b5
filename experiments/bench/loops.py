"""The bare loops: what a competent user of PyTorch would write without a framework.

Data are tensors on the host, floats or bytes that are scaled batch by batch; batches
come by ``index_select`` (several times faster than ``x[index]`` for images), memories
are tensors that are allocated once. Each piece is the fastest of the plain ways to
write it that were tried.
"""

import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_SMALL = 32  # up to here deciding in Python beats the vectorised form
_SHORT = 4096  # up to here a whole permutation is cheaper than a sample in Python


class ReservoirMemory:
    """Algorithm R over batches, whose rows are all written at once."""

    def __init__(self, capacity: int, seed: int = 0) -> None:
        self.capacity = capacity
        self.seen = 0
        self.x = self.y = torch.zeros(0)
        self._random = random.Random(seed).random

    def __len__(self) -> int:
        return min(self.seen, self.capacity)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Offer a batch."""
        if len(y) > _SMALL:
            self._add_many(x, y)
            return
        slots = {}
        for position in range(len(y)):
            self.seen += 1
            slot = self.seen - 1
            if slot >= self.capacity:
                slot = int(self._random() * self.seen)
            if slot < self.capacity:
                slots[slot] = position
        if slots:
            row = torch.tensor(list(slots.values()))
            self._write(torch.tensor(list(slots)), row, x, y)

    def _add_many(self, x: Tensor, y: Tensor) -> None:
        number = torch.arange(self.seen + 1, self.seen + len(y) + 1)
        slot = (torch.rand(len(y), dtype=torch.float64) * number).long()
        if self.seen < self.capacity:
            slot = torch.where(number <= self.capacity, number - 1, slot)
        self.seen += len(y)
        row = (slot < self.capacity).nonzero()[:, 0]
        if len(row):  # where a slot is hit twice the later row is written last
            self._write(slot[row], row, x, y)

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        """``n`` rows without replacement, or all there are."""
        stored = len(self)
        if stored <= _SHORT:
            index = torch.randperm(stored)[:n]
        else:
            index = torch.tensor(random.sample(range(stored), n))
        return self.x.index_select(0, index), self.y.index_select(0, index)

    def _write(self, slot: Tensor, row: Tensor, x: Tensor, y: Tensor) -> None:
        if not len(self.x):
            self.x = x.new_zeros(self.capacity, *x.shape[1:])
            self.y = y.new_zeros(self.capacity)
        self.x.index_copy_(0, slot, x.index_select(0, row))
        self.y.index_copy_(0, slot, y.index_select(0, row))


class RingMemory(ReservoirMemory):
    """The last rows of each of ``classes`` classes, known in advance."""

    def __init__(self, capacity: int, classes: int) -> None:
        super().__init__(capacity)
        self._quota = capacity // classes
        self._met = [0] * classes

    def add(self, x: Tensor, y: Tensor) -> None:
        """Store a batch."""
        slots = {}
        for position, group in enumerate(y.tolist()):
            slots[group * self._quota + self._met[group] % self._quota] = position
            self._met[group] += 1
        self.seen += len(y)
        row = torch.tensor(list(slots.values()))
        self._write(torch.tensor(list(slots)), row, x, y)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    batches: Sequence[Tensor],
    memory: ReservoirMemory | None = None,
    replay: int = 0,
) -> int:
    """Gradient steps, with rows of a memory beside each batch if there is one.

    :param batches: indices of the rows of each batch.
    :param replay: memory rows a batch.
    :return: the number of steps.
    """
    criterion = nn.CrossEntropyLoss()
    model.train()
    for index in batches:
        now_x, now_y = x.index_select(0, index), y.index_select(0, index)
        all_x, all_y = now_x, now_y
        if memory is not None and len(memory):
            old_x, old_y = memory.draw(replay)
            all_x, all_y = torch.cat((now_x, old_x)), torch.cat((now_y, old_y))
        optimizer.zero_grad()
        criterion(model(_floats(all_x)), all_y).backward()
        optimizer.step()
        if memory is not None:
            memory.add(now_x, now_y)
    return len(batches)


@torch.inference_mode()
def evaluate(
    model: nn.Module, parts: Sequence[tuple[Tensor, Tensor]], size: int
) -> list[float]:
    """Accuracy on each part.

    :param size: rows a batch.
    """
    model.eval()
    accuracies = []
    for x, y in parts:
        right = torch.zeros((), dtype=torch.long)
        for some_x, some_y in zip(x.split(size), y.split(size), strict=True):
            right += (model(_floats(some_x)).argmax(1) == some_y).sum()
        accuracies.append(right.item() / len(y))
    return accuracies


def _floats(x: Tensor) -> Tensor:
    return x.div(255) if x.dtype is torch.uint8 else x
