"""A memory that notes what it was told of rows, and scores of single rows beside it."""

import copy

import torch
from avalanche.models.utils import avalanche_forward

from avalanche_ext import MultiStrategyBuffer
from avalanche_ext.gradients import per_sample_losses

SIZE, DRAWN = 20, 5
CRITERIA = ("loss", "gradient")


class Noted(MultiStrategyBuffer):
    """Notes which rows a step drew, and which it kept."""

    def __init__(self, **options):
        super().__init__(SIZE, **{"criteria": CRITERIA, "seed": 0, **options})
        for name in CRITERIA:  # from now on, whatever the sampling reads
            self.scores(name)
        self.drawn, self.kept = [], []

    def draw(self, n, sampling=None):
        draw = super().draw(n, sampling)
        self.drawn = draw.index.tolist()
        return draw

    def offer(self, *rows):
        slots = super().offer(*rows)
        self.kept = list(slots)
        return slots


def alone(model, criterion, memory, slot):
    """Loss and gradient norm of the row at a slot, which is the whole batch."""
    names = [name for name in ("x", "y", "task") if name in memory.table.columns]
    x, y, *task = (memory.table.column(name)[slot : slot + 1] for name in names)
    if memory.transform is not None:
        x = memory.transform(x)
    model = copy.deepcopy(model).double()
    torch.set_default_dtype(torch.float64)  # of what several heads make
    output = avalanche_forward(model, x.double(), task[0] if task else None)
    torch.set_default_dtype(torch.float32)
    loss = per_sample_losses(criterion, output, y).sum()
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    squares = [g.square().sum() for g in gradients if g is not None]
    return {"loss": loss.detach(), "gradient": torch.stack(squares).sum().sqrt()}


def assert_alone(memory, slots, model, criterion, names=CRITERIA):
    for slot in slots:
        expected = alone(model, criterion, memory, slot)
        for name in names:
            found = memory.table.column(f"score_{name}")[slot].double()
            torch.testing.assert_close(found, expected[name], rtol=1e-4, atol=1e-6)
