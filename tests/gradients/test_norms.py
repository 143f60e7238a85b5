"""Norms: which parameters, which models of Avalanche, how much memory."""

from typing import Any

import pytest
import small_networks as networks
import torch
import torch.nn.functional as F
from avalanche.models import (
    IncrementalClassifier,
    MTSimpleMLP,
    SimpleCNN,
    SimpleMLP,
    avalanche_forward,
)
from single_rows import gradient_rows, norms_of
from torch import Tensor, nn

from avalanche_ext.gradients import (
    diagonal_fisher,
    forward_rows,
    gradient_norms,
    inspect_gradients,
    losses_and_gradient_norms,
    per_sample_losses,
)

ROWS = 8


def expected_of(
    model: nn.Module, x: Any, y: Tensor, task: Tensor | None = None
) -> Tensor:
    return norms_of(gradient_rows(model, F.cross_entropy, x, y, task))


def agree(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert not found.requires_grad
    assert (found - expected).norm() <= 1e-6 * expected.norm()


@pytest.fixture
def batch() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(1)
    return networks.mlp(), torch.randn(ROWS, 6), torch.arange(ROWS) % 4


@pytest.mark.parametrize(
    ("make", "shape"),
    [(lambda: SimpleMLP(hidden_layers=2), (1, 28, 28)), (SimpleCNN, (3, 32, 32))],
    ids=["SimpleMLP", "SimpleCNN"],
)
def test_upstreams_networks(make: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, x, y = make(), torch.randn(4, *shape), torch.arange(4)
    assert not inspect_gradients(model, x).refused
    agree(gradient_norms(model, F.cross_entropy, x, y), expected_of(model, x, y))


def test_rows_that_reach_a_head_of_their_own(class_stream: Any) -> None:
    model = MTSimpleMLP(input_size=64, hidden_size=16)
    for experience in class_stream(tasks=True).train_stream:
        model.train()
        for module in model.modules():
            if hasattr(module, "adaptation"):
                module.adaptation(experience)
    torch.manual_seed(0)
    x, task = torch.randn(12, 1, 8, 8), torch.tensor([3, 0, 1, 1, 2, 0] * 2)
    y = 2 * task + torch.arange(12) % 2
    inspection = inspect_gradients(model, x, task)
    assert not inspection.refused
    expected = expected_of(model, x, y, task)
    for rows_per_pass in (None, 5):
        arguments = {"inspection": inspection, "rows_per_pass": rows_per_pass}
        found = gradient_norms(model, F.cross_entropy, x, y, task, **arguments)
        agree(found, expected)
    found = gradient_norms(
        model, F.cross_entropy, x, y, task, forward=avalanche_forward
    )
    agree(found, expected)
    heads = {
        name: rows
        for name, rows in gradient_rows(model, F.cross_entropy, x, y, task).items()
        if "classifiers" in name
    }
    last = gradient_norms(model, F.cross_entropy, x, y, task, parameters="last")
    agree(last, norms_of(heads))


def test_heads_that_were_not_met_when_inspected() -> None:
    torch.manual_seed(0)
    model, x, y = networks.Experts(), torch.randn(ROWS, 6), torch.arange(ROWS) % 4
    first = x[:, 0] > 0
    inspection = inspect_gradients(model, x[first])
    assert not any(name.startswith("experts.0") for name in inspection.formulas)
    found = gradient_norms(model, F.cross_entropy, x, y, inspection=inspection)
    agree(found, expected_of(model, x, y))


def test_a_growing_head(class_stream: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), IncrementalClassifier(8, 2))
    x = torch.randn(ROWS, 1, 8, 8)
    inspection = None
    for experience in class_stream().train_stream:
        model[2].adaptation(experience)
        y = torch.arange(ROWS) % 2 + 2 * experience.current_experience
        found = gradient_norms(model, F.cross_entropy, x, y, inspection=inspection)
        agree(found, expected_of(model, x, y))
        inspection = inspect_gradients(model, x)
        assert not inspection.refused
        exact = diagonal_fisher(model, x, labels="exact")
        assert exact["2.classifier.weight"].any(1).sum() == len(
            model[2].active_units.nonzero()
        )


def test_last_layer(batch: Any) -> None:
    model, x, y = batch
    rows = gradient_rows(model, F.cross_entropy, x, y)
    found = gradient_norms(model, F.cross_entropy, x, y, parameters="last")
    agree(found, norms_of({name: rows[name] for name in ("3.weight", "3.bias")}))
    model.eval()
    delta = model(x).softmax(1) - F.one_hot(y, 4)
    features = model[:3](x)
    closed = delta.norm(dim=1) * (features.square().sum(1) + 1).sqrt()
    agree(found, closed.detach())


def test_last_layer_without_a_formula() -> None:
    torch.manual_seed(1)
    model, x, y = networks.Tied(), torch.randn(ROWS, 6), torch.arange(ROWS) % 4
    found = gradient_norms(model, F.cross_entropy, x, y, parameters="last")
    agree(found, expected_of(model, x, y))


def test_named_parameters_alone(batch: Any) -> None:
    model, x, y = batch
    rows = gradient_rows(model, F.cross_entropy, x, y)
    names = ["0.bias", "3.weight"]
    found = gradient_norms(model, F.cross_entropy, x, y, parameters=names)
    agree(found, norms_of({name: rows[name] for name in names}))


def test_frozen_parameters_are_left_out(batch: Any) -> None:
    model, x, y = batch
    inspection = inspect_gradients(model, x)
    model[0].weight.requires_grad_(False)
    model[3].bias.requires_grad_(False)
    found = gradient_norms(model, F.cross_entropy, x, y, inspection=inspection)
    rows = gradient_rows(model, F.cross_entropy, x, y)
    assert list(rows) == ["0.bias", "3.weight"]
    agree(found, norms_of(rows))
    assert list(diagonal_fisher(model, x)) == list(rows)


def test_parameters_that_are_not_used_have_no_gradient() -> None:
    torch.manual_seed(1)
    model = networks.mlp()
    model.spare = nn.Linear(2, 2)  # of a task that has not come
    model.forward = lambda x: nn.Sequential.forward(model[:4], x)
    x, y = torch.randn(ROWS, 6), torch.arange(ROWS) % 4
    agree(gradient_norms(model, F.cross_entropy, x, y), expected_of(model, x, y))
    assert not diagonal_fisher(model, x)["spare.weight"].any()


def test_losses_of_the_same_pass(batch: Any) -> None:
    model, x, y = batch
    criterion = nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    losses, norms = losses_and_gradient_norms(model, criterion, x, y, rows_per_pass=3)
    plain = gradient_norms(model, F.cross_entropy, x, y)
    agree(norms, plain * criterion.weight[y])
    model.eval()
    agree(losses, per_sample_losses(criterion, model(x), y).detach())


def test_a_forward_of_ones_own() -> None:
    torch.manual_seed(1)
    model, x, y = networks.mlp(4), torch.randn(ROWS, 2), torch.arange(ROWS) % 4
    task = torch.arange(ROWS) % 3

    def forward(model: nn.Module, x: Tensor, task: Tensor | None) -> Tensor:
        assert task is not None
        output: Tensor = model(torch.stack([*x.T, task, -task], 1))
        return output

    found = gradient_norms(
        model, F.cross_entropy, x, y, task, forward=forward, rows_per_pass=3
    )
    told = torch.stack([*x.T, task, -task], 1)
    agree(found, expected_of(model, told, y))


def test_tasks_reach_multi_task_modules_alone(batch: Any) -> None:
    model, x, _ = batch
    model.eval()
    torch.testing.assert_close(forward_rows(model, x, torch.ones(ROWS)), model(x))


def test_passes_have_no_more_rows_than_asked(batch: Any) -> None:
    model, _, _ = batch
    sizes = []
    model.register_forward_pre_hook(lambda model, args: sizes.append(len(args[0])))
    for rows in (50, 500):
        x, y = torch.randn(rows, 6), torch.zeros(rows, dtype=torch.long)
        sizes.clear()
        gradient_norms(model, F.cross_entropy, x, y, rows_per_pass=20)
        assert max(sizes) == 20


def test_rows_of_a_pass_follow_from_the_layers_size() -> None:
    model = nn.Sequential(nn.Conv2d(1, 64, 1), nn.Flatten(), nn.Linear(64 * 32 * 32, 2))
    sizes = []
    model.register_forward_pre_hook(lambda model, args: sizes.append(len(args[0])))
    x, y = torch.randn(200, 1, 32, 32), torch.zeros(200, dtype=torch.long)
    gradient_norms(model, F.cross_entropy, x, y)
    row_bytes = 4 * (32 * 32 * (1 + 64) + 64 * 32 * 32 + 2)
    assert max(sizes) == (1 << 26) // row_bytes


def test_no_rows(batch: Any) -> None:
    model, x, y = batch
    assert gradient_norms(model, F.cross_entropy, x[:0], y[:0]).shape == (0,)


def test_one_row(batch: Any) -> None:
    model, x, y = batch
    found = gradient_norms(model, F.cross_entropy, x[:1], y[:1])
    agree(found, expected_of(model, x[:1], y[:1]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parameters": "first"}, "parameters='first'; it must be 'all', 'last'"),
        ({"parameters": ["0.scale"]}, r"\['0.scale'\] are not parameters"),
        ({"parameters": []}, "none of the 0 parameters"),
        ({"rows_per_pass": 0}, "rows_per_pass=0"),
        ({"task": torch.zeros(3)}, "task has 3 rows"),
    ],
)
def test_bad_arguments(batch: Any, arguments: dict[str, Any], message: str) -> None:
    model, x, y = batch
    with pytest.raises(ValueError, match=message):
        gradient_norms(model, F.cross_entropy, x, y, **arguments)


def test_other_numbers_of_targets(batch: Any) -> None:
    model, x, y = batch
    with pytest.raises(ValueError, match="x has 8, y has 7 rows"):
        gradient_norms(model, F.cross_entropy, x, y[:7])


def test_nothing_to_train(batch: Any) -> None:
    model, x, y = batch
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="none of the 4 parameters"):
        gradient_norms(model, F.cross_entropy, x, y)
