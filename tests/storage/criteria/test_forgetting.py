"""avalanche_ext/storage/criteria/forgetting.py against the losses of each row, listed."""

import torch
from torch import nn

from avalanche_ext import ForgettingCriterion, MultiStrategyBuffer
from avalanche_ext.storage.criteria import ScoringContext


def test_it_is_the_loss_above_the_lowest_of_all_that_were_scored():
    torch.manual_seed(0)
    x, y = torch.randn(12, 5), torch.arange(12) % 3
    memory = MultiStrategyBuffer(
        12, criteria=[ForgettingCriterion()], sampling="mixed", seed=0
    )
    history = []
    for step in range(6):
        torch.manual_seed(step)
        model = nn.Linear(5, 3)
        if not step:
            memory.add(x, y, model=model)
        memory.refresh(model)
        with torch.no_grad():
            losses = nn.functional.cross_entropy(model(x), y, reduction="none")
        history.append(losses)
        lowest = torch.stack(history).min(0).values
        torch.testing.assert_close(memory.scores("forgetting"), losses - lowest)
        torch.testing.assert_close(memory.table.column("lowest_loss"), lowest)


def test_what_is_remembered_goes_with_its_row():
    torch.manual_seed(0)
    x, y = torch.randn(10, 5), torch.arange(10) % 2
    memory = MultiStrategyBuffer(10, criteria=["forgetting"], sampling="mixed", seed=0)
    first, second = nn.Linear(5, 2), nn.Linear(5, 2)
    memory.add(x, y, model=first)
    memory.evict(4)
    memory.refresh(second)
    held, labels = memory.table.column("x"), memory.table.column("y")
    with torch.no_grad():
        losses = [
            nn.functional.cross_entropy(model(held), labels, reduction="none")
            for model in (first, second)
        ]
    expected = losses[1] - torch.minimum(*losses)
    torch.testing.assert_close(memory.scores("forgetting"), expected)


def test_an_infinite_loss_is_forgotten_only_where_it_was_lower_before():
    rows = {"y": torch.zeros(3), "lowest_loss": torch.tensor([torch.inf, 1.0, 1.0])}
    context = ScoringContext()
    context.know(rows, losses=torch.tensor([torch.inf, torch.inf, torch.nan]))
    found = ForgettingCriterion().score(rows, context)
    assert found[:2].tolist() == [0.0, torch.inf]
    assert found[2].isnan()  # refused where scores are taken over


def test_the_lowest_loss_is_found_once_for_score_and_memory(monkeypatch):
    rows = {"y": torch.zeros(2), "lowest_loss": torch.tensor([1.0, 3.0])}
    context, criterion = ScoringContext(), ForgettingCriterion()
    context.know(rows, losses=torch.tensor([2.0, 2.0]))
    fmin, calls = torch.fmin, []
    monkeypatch.setattr(torch, "fmin", lambda *of: calls.append(of) or fmin(*of))
    assert criterion.score(rows, context).tolist() == [1.0, 0.0]
    assert criterion.remember(rows, context).tolist() == [1.0, 2.0]
    assert len(calls) == 1
    # Of other rows, and in another state of the model, anew.
    others = {"y": torch.zeros(1), "lowest_loss": torch.tensor([0.5])}
    context.know(others, losses=torch.tensor([2.0]))
    assert criterion.remember(others, context).tolist() == [0.5]
    context.know(rows, losses=torch.tensor([0.0, 0.0]))
    assert criterion.remember(rows, context).tolist() == [0.0, 0.0]
