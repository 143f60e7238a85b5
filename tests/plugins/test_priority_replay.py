"""avalanche_ext/plugins/rehearsal.py: prioritised replay against a plain PyTorch loop.

The loop keeps rows and scores in dictionaries, scores one row at a time, and draws and
weighs rows by the formulas; only which slot a row takes is told, by a reservoir without
scores of the same seed.
"""

import pytest
import torch
from rehearsed import network, strategy
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from avalanche_ext import MultiStrategyBuffer, RehearsalPlugin
from avalanche_ext.storage.priority import Priority

SIZE, DRAWN, EPOCHS, SEED = 20, 5, 2, 3


class Loop:
    """Prioritised experience replay, written out."""

    def __init__(self, priority, weights):
        self.priority, self.weights = priority, weights
        self.told = MultiStrategyBuffer(SIZE, seed=SEED)
        self.numbers = torch.Generator()
        self.numbers.set_state(self.told.state_dict()["drawing"])
        self.rows, self.scores = {}, {}
        self.importance = []  # of all draws
        self.model = network()

    def train(self, benchmark):
        for experience in benchmark.train_stream:
            loader = DataLoader(experience.dataset.train(), batch_size=8, shuffle=True)
            for epoch in range(EPOCHS):
                for x, y in loader:
                    self.step(x, y, offers=epoch == 0)
            for slot, row in self.rows.items():
                self.scores[slot] = self.score(*row)
        return self.model

    def step(self, x, y, offers):
        drawn, weights = self.draw()
        rows = [*zip(x, y, strict=True), *(self.rows[slot] for slot in drawn)]
        losses = [self.loss(*row) for row in rows]
        current, replayed = torch.stack(losses[:8]).mean(), 0.0
        c, r = 1.0, 0.0
        if drawn:
            parts = zip(losses[8:], weights, strict=True)
            replayed = sum(loss * weight for loss, weight in parts) / len(drawn)
            c, r = self.weights or (8 / len(rows), len(drawn) / len(rows))
        # Of the weights that the step is made with; a row drawn twice is one row.
        scores = [self.score(*row) for row in rows]
        self.model.zero_grad()
        (c * current + r * replayed).backward()
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter -= 0.05 * parameter.grad
        self.scores |= zip(drawn, scores[8:], strict=True)
        for position, slot in enumerate(self.told.add(x, y).tolist() if offers else ()):
            if slot >= 0:
                self.rows[slot] = (x[position], y[position])
                self.scores[slot] = scores[position]

    def loss(self, x, y):
        return cross_entropy(self.model(x[None]), y[None])

    def score(self, x, y):
        loss = self.loss(x, y)
        if self.priority.name == "loss":
            return loss.item()
        gradients = torch.autograd.grad(loss, list(self.model.parameters()))
        return sum(g.double().square().sum().item() for g in gradients) ** 0.5

    def draw(self):
        """Slots, and the importance weight of each."""
        p, stored = self.priority, len(self.rows)
        if stored <= DRAWN:
            return list(self.rows), [1.0] * stored
        scores = torch.tensor([self.scores[slot] for slot in range(stored)]).double()
        rates = (scores + p.eps) ** p.alpha
        if p.replacement:
            chances = rates / rates.sum()
            points = torch.rand(DRAWN, generator=self.numbers, dtype=torch.float64)
            ends = chances.cumsum(0)
            drawn = [int((ends <= point * ends[-1]).sum()) for point in points]
            weights = (stored * chances[drawn]) ** -p.beta
            weights = weights / weights.max()
        else:
            uniform = torch.empty(1, stored, dtype=torch.float64)
            uniform.uniform_(1e-300, 1.0, generator=self.numbers)
            times = -uniform[0].log() / rates
            *drawn, following = times.argsort()[: DRAWN + 1].tolist()
            reached = 1 - torch.exp(-rates[drawn] * times[following])
            weights = (DRAWN / (stored * reached)) ** p.beta
        self.importance += weights.tolist()
        return drawn, weights.tolist()


@pytest.mark.parametrize("weights", [None, (0.5, 2.0)])
@pytest.mark.parametrize(
    "priority",
    [
        Priority(),
        Priority(alpha=1.0, beta=1.0),
        Priority("gradient", alpha=1.0, beta=1.0),
        Priority(alpha=1.0, beta=1.0, replacement=True),
    ],
    ids=["default", "loss", "gradient", "with replacement"],
)
def test_training_equals_the_written_out_loop(class_stream, priority, weights):
    benchmark = class_stream(scale=False)
    sampling = "priority" if priority == Priority() else priority
    buffer = MultiStrategyBuffer(SIZE, sampling=sampling, seed=SEED)
    plugin = RehearsalPlugin(buffer, DRAWN, loss_weights=weights)
    trained = strategy([plugin], epochs=EPOCHS)
    for experience in benchmark.train_stream:
        trained.train(experience, eval_streams=[])
    loop = Loop(priority, weights)
    expected = loop.train(benchmark)
    for a, b in zip(trained.model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    scores = torch.tensor([loop.scores[slot] for slot in range(SIZE)])
    found = buffer.known_scores()[priority.name]
    torch.testing.assert_close(found, scores, rtol=1e-5, atol=1e-6)
    # It would not be equal without the weights: they are far from 1.
    assert max(loop.importance) > 2 * min(loop.importance)
