"""EWC's Fisher information against a loop of backward passes of one row each."""

import copy
from typing import Any

import pytest
import torch
from avalanche.models import MultiTaskModule
from avalanche.training.supervised import Naive
from paper_importance import close, fisher, importance_of, rows_of, squares_by_class
from paper_problems import NETWORKS, batches_of, problem
from small_networks import CLASSES
from torch import Tensor, nn

from avalanche_ext import AdaptiveEWCPlugin, LeanEvaluationPlugin

pytestmark = pytest.mark.usefixtures("passes")


class Heads(MultiTaskModule):
    """Shared features and a head a task."""

    def __init__(self, tasks: int = 3) -> None:
        super().__init__()
        self.shared = nn.Linear(6, 5)
        self.heads = nn.ModuleList(nn.Linear(5, 2) for task in range(tasks))

    def forward(self, x: Tensor, task_labels: Tensor) -> Tensor:
        hidden = torch.tanh(self.shared(x))
        out = hidden.new_zeros(len(x), 2)
        for task, head in enumerate(self.heads):
            mine = task_labels == task
            if mine.any():
                out[mine] = head(hidden[mine])
        return out


@pytest.mark.parametrize("labels", ["exact", "empirical", "weighted"])
@pytest.mark.parametrize("name", NETWORKS)
def test_fisher_is_that_of_batches_of_one(name: str, labels: Any) -> None:
    model, x, y = problem(name)
    wanted = fisher(model, rows_of(x, y), labels)
    assert all(v.any() for v in wanted.values())
    state = copy.deepcopy(model.state_dict())
    for size in (1, 10, 128):
        ewc = AdaptiveEWCPlugin(3.0, labels=labels)
        ewc.update(model, batches_of(x, y, size))
        assert model.training  # and nothing else is left behind either
        close(model.state_dict(), state, 0)
        close(importance_of(ewc, model, 1.5), wanted)


def test_fisher_in_single_precision() -> None:
    model, x, y = problem("cnn")
    wanted = fisher(model, rows_of(x, y))
    ewc = AdaptiveEWCPlugin(2.0)
    ewc.update(model.float(), batches_of(x.float(), y, 10))
    found = importance_of(ewc, model, 1.0)
    close(found, {n: v.float() for n, v in wanted.items()}, 2e-6)


def test_sampled_labels_are_drawn_from_the_model() -> None:
    """Many copies of one row: its Fisher is that of counts of a multinomial."""
    model, x, _ = problem("mlp")
    model.eval()
    copies = 4000
    ewc = AdaptiveEWCPlugin(2.0, labels="sampled", num_samples=None, seed=11)
    ewc.update(model, [(x[:1].expand(copies, 6), torch.zeros(copies).long())])
    found = importance_of(ewc, model, 1.0)
    by_class = squares_by_class(model, (x[:1], torch.tensor([0]), None))
    flat = [torch.cat([v.flatten() for v in s.values()]) for _, s in by_class]
    target = torch.cat([v.flatten() for v in found.values()])
    shares = torch.linalg.lstsq(torch.stack(flat, 1), target[:, None]).solution[:, 0]
    assert torch.allclose(torch.stack(flat, 1) @ shares, target, atol=1e-10)
    counts = shares * copies
    assert torch.allclose(counts, counts.round(), atol=1e-5)
    odds = torch.tensor([p for p, _ in by_class]).double()
    chi = ((counts - copies * odds) ** 2 / (copies * odds)).sum()
    assert chi < 16.27  # 0.1 % of a chi-square of 3 degrees of freedom


def test_sampled_labels_have_the_exact_fisher_as_expectation() -> None:
    """Mean of many draws, within four standard errors that are written out too."""
    model, x, y = problem("cnn")
    model.eval()
    draws, rows = 60, rows_of(x, y)
    wanted = fisher(model, rows)
    variance = {n: torch.zeros_like(v) for n, v in wanted.items()}
    for row in rows:
        by_class = squares_by_class(model, row)
        for n in variance:
            mean = sum(p * s[n] for p, s in by_class)
            spread = sum(p * (s[n] - mean) ** 2 for p, s in by_class)
            variance[n] += spread / len(rows) ** 2 / draws
    total = {n: torch.zeros_like(v) for n, v in wanted.items()}
    for seed in range(draws):
        ewc = AdaptiveEWCPlugin(2.0, labels="sampled", seed=seed)
        ewc.update(model, batches_of(x, y, 10))
        for n, v in importance_of(ewc, model, 1.0).items():
            total[n] += v / draws
    z = torch.cat(
        [
            ((total[n] - wanted[n]) / variance[n].sqrt().clamp(min=1e-12)).flatten()
            for n in wanted
        ]
    )
    assert z.abs().max() < 5
    assert z.square().mean() == pytest.approx(1, abs=0.6)  # entries are correlated


def test_drawn_rows_are_rows_of_the_experience(class_stream: Any) -> None:
    """``num_samples=1``: the Fisher is that of one row, and each has its turn."""

    benchmark = class_stream(1, 4)
    experience = benchmark.train_stream[0]
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    met: list[int] = []
    rows = [experience.dataset[i] for i in range(4)]
    each = [fisher(model, [(r[0][None], torch.tensor([r[1]]), None)]) for r in rows]
    for seed in range(24):
        ewc = AdaptiveEWCPlugin(2.0, num_samples=1, seed=seed)
        Naive(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), 0.0),
            criterion=nn.CrossEntropyLoss(),
            train_mb_size=4,
            evaluator=LeanEvaluationPlugin(),
            plugins=[ewc],
        ).train(experience)
        found = importance_of(ewc, model, 1.0)
        distances = [(found["1.weight"] - f["1.weight"]).norm() for f in each]
        met.append(min(range(4), key=lambda i: float(distances[i])))
        close(found, each[met[-1]], 2e-6)
    assert set(met) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    "criterion",
    [
        nn.CrossEntropyLoss(label_smoothing=0.2),
        nn.MultiMarginLoss(),
        lambda output, y: (output.logsumexp(1) - output[:, 0] * y).square().mean(),
    ],
    ids=["smoothed", "margin", "function"],
)
def test_empirical_labels_are_under_the_criterion(criterion: Any) -> None:
    model, x, y = problem("mlp")
    ewc = AdaptiveEWCPlugin(1.0, labels="empirical")
    ewc.update(model, batches_of(x, y, 10), criterion=criterion)
    wanted = fisher(model, rows_of(x, y), "empirical", criterion)
    close(importance_of(ewc, model, 0.5), wanted)


def test_empirical_labels_of_tokens() -> None:
    torch.manual_seed(0)

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(8, 6)
            self.head = nn.Linear(6, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(torch.relu(self.first(x))).transpose(1, 2)
            return out

    model = Tagger().double()
    x, y = torch.randn(9, 5, 8).double(), torch.randint(0, CLASSES, (9, 5))
    ewc = AdaptiveEWCPlugin(1.0, labels="empirical")
    ewc.update(model, batches_of(x, y, 4))
    close(importance_of(ewc, model, 0.5), fisher(model, rows_of(x, y), "empirical"))


@pytest.mark.parametrize("labels", ["exact", "empirical", "weighted"])
def test_fisher_of_several_heads(labels: Any) -> None:
    torch.manual_seed(0)
    model = Heads().double()
    x, y = torch.randn(14, 6).double(), torch.randint(0, 2, (14,))
    task = torch.tensor([0, 2] * 7)
    wanted = fisher(model, rows_of(x, y, task), labels)
    assert not wanted["heads.1.weight"].any()
    for size in (1, 10, 128):
        ewc = AdaptiveEWCPlugin(1.0, labels=labels)
        ewc.update(model, batches_of(x, y, size, task))
        close(importance_of(ewc, model, 0.5), wanted)
