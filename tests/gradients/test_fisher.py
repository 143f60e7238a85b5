"""The diagonal Fisher against sums over rows and classes, one backward pass each."""

from typing import Any

import pytest
import small_networks as networks
import torch
import torch.nn.functional as F
from single_rows import gradient_rows, squares_of
from torch import Tensor, nn

from avalanche_ext.gradients import diagonal_fisher, gradient_norms

ROWS = 7


@pytest.fixture
def batch() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(1)
    model = networks.mlp().double()
    return model, torch.randn(ROWS, 6).double(), torch.arange(ROWS) % 4


def agree(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-8, atol=1e-8)


def odds_of(model: nn.Module, x: Tensor) -> Tensor:
    model.eval()
    with torch.no_grad():
        odds: Tensor = model(x).softmax(1)
    return odds


@pytest.mark.parametrize(
    "make", [networks.mlp, networks.Twice], ids=["formula", "rows"]
)
def test_exact_is_the_expectation_over_classes(make: Any) -> None:
    torch.manual_seed(1)
    model, x = make().double(), torch.randn(ROWS, 6).double()
    odds = odds_of(model, x)
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for label in range(networks.CLASSES):
        y = torch.full((ROWS,), label)
        for name, rows in gradient_rows(model, F.cross_entropy, x, y).items():
            for p, row in zip(odds[:, label], rows, strict=True):
                expected[name] += p * row**2 / ROWS
    agree(diagonal_fisher(model, x, labels="exact"), expected)
    agree(diagonal_fisher(model, x, labels="exact", rows_per_pass=3), expected)


def test_weighted_is_the_own_labels_term_of_exact(batch: Any) -> None:
    model, x, y = batch
    odds = odds_of(model, x)
    expected = {}
    for name, rows in gradient_rows(model, F.cross_entropy, x, y).items():
        terms = [odds[i, y[i]] * row**2 for i, row in enumerate(rows)]
        expected[name] = torch.stack(terms).mean(0)
    agree(diagonal_fisher(model, x, y, labels="weighted", rows_per_pass=3), expected)
    with pytest.raises(ValueError, match="labels='weighted' needs an output of shape"):
        diagonal_fisher(nn.Conv1d(6, 4, 1), x.float()[:, :, None], y, labels="weighted")


def test_exact_skips_classes_without_probability() -> None:
    torch.manual_seed(1)
    model = nn.Linear(3, 4)
    with torch.no_grad():
        model.bias[2:] = -2000.0
    x = torch.randn(ROWS, 3)
    found = diagonal_fisher(model, x, labels="exact")
    assert found["bias"][:2].all()
    assert not found["bias"][2:].any()


def test_sampled_labels_come_from_the_generator(batch: Any) -> None:
    model, x, _ = batch
    drawn = odds_of(model, x).multinomial(
        1, generator=torch.Generator().manual_seed(5)
    )[:, 0]
    expected = squares_of(gradient_rows(model, F.cross_entropy, x, drawn))
    before = torch.get_rng_state()
    generator = torch.Generator().manual_seed(5)
    agree(diagonal_fisher(model, x, generator=generator), expected)
    assert torch.equal(before, torch.get_rng_state())


def test_the_global_seed_decides_labels(batch: Any) -> None:
    model, x, _ = batch
    torch.manual_seed(5)
    first, second = diagonal_fisher(model, x), diagonal_fisher(model, x)
    torch.manual_seed(5)
    agree(diagonal_fisher(model, x), first)
    assert not torch.equal(first["3.bias"], second["3.bias"])


def test_sampled_labels_have_the_models_distribution() -> None:
    torch.manual_seed(0)
    model = nn.Linear(1, 3)
    odds = odds_of(model, torch.ones(1, 1))[0]
    found = diagonal_fisher(
        model, torch.ones(20_000, 1), generator=torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(found["bias"], odds * (1 - odds), rtol=0.1, atol=0)


def test_sampled_tokens() -> None:
    torch.manual_seed(0)
    model = nn.Conv1d(3, 4, 1)
    x = torch.randn(ROWS, 3, 5)
    drawn = model(x).softmax(1).movedim(1, -1).reshape(-1, 4)
    generator = torch.Generator().manual_seed(2)
    y = drawn.multinomial(1, generator=generator).view(ROWS, 5)
    expected = squares_of(gradient_rows(model, F.cross_entropy, x, y))
    found = diagonal_fisher(model, x, generator=torch.Generator().manual_seed(2))
    for name, values in expected.items():
        assert (found[name] - values).norm() <= 1e-6 * values.norm()


@pytest.mark.parametrize("rows_per_pass", [1, 3, 100])
def test_batches_do_not_matter(batch: Any, rows_per_pass: int) -> None:
    model, x, y = batch
    expected = squares_of(gradient_rows(model, F.cross_entropy, x, y))
    found = diagonal_fisher(
        model, x, y, labels="empirical", rows_per_pass=rows_per_pass
    )
    agree(found, expected)


def test_weights(batch: Any) -> None:
    model, x, y = batch
    weights = torch.arange(ROWS).double()
    rows = gradient_rows(model, F.cross_entropy, x, y)
    total = {
        name: sum(w * row**2 for w, row in zip(weights, values, strict=True))
        for name, values in rows.items()
    }
    given = {"labels": "empirical", "weights": weights, "rows_per_pass": 3}
    agree(diagonal_fisher(model, x, y, reduction="sum", **given), total)
    mean = {name: values / weights.sum() for name, values in total.items()}
    agree(diagonal_fisher(model, x, y, **given), mean)


def test_sums_of_batches_add_up(batch: Any) -> None:
    model, x, y = batch
    parts = [
        diagonal_fisher(model, a, b, labels="empirical", reduction="sum")
        for a, b in zip(x.split(4), y.split(4), strict=True)
    ]
    whole = diagonal_fisher(model, x, y, labels="empirical", reduction="sum")
    agree({name: parts[0][name] + parts[1][name] for name in whole}, whole)


def test_trace_is_the_mean_square_norm(batch: Any) -> None:
    model, x, y = batch
    trace = sum(
        v.sum() for v in diagonal_fisher(model, x, y, labels="empirical").values()
    )
    norms = gradient_norms(model, F.cross_entropy, x, y)
    torch.testing.assert_close(trace, norms.square().mean())


def test_empirical_under_another_criterion(batch: Any) -> None:
    model, x, _ = batch
    target = torch.randn(ROWS, networks.CLASSES).double()
    expected = squares_of(gradient_rows(model, F.mse_loss, x, target))
    found = diagonal_fisher(
        model, x, target, labels="empirical", criterion=nn.MSELoss()
    )
    agree(found, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": "true"}, "labels='true'; it must be 'sampled'"),
        ({"labels": "empirical"}, "y is None"),
        ({"labels": "weighted"}, "labels='weighted' needs targets: y is None"),
        ({"reduction": "max"}, "reduction='max'"),
        ({"weights": torch.ones(3)}, "x has 7, weights has 3 rows"),
        ({"weights": -torch.ones(ROWS)}, "none below 0"),
        ({"parameters": "last"}, "is for norms"),
        ({"rows_per_pass": 0}, "at least 1"),
    ],
)
def test_bad_arguments(batch: Any, arguments: dict[str, Any], message: str) -> None:
    model, x, _ = batch
    with pytest.raises(ValueError, match=message):
        diagonal_fisher(model, x, **arguments)


def test_outputs_that_are_no_classes() -> None:
    with pytest.raises(ValueError, match="labels='exact' needs an output"):
        diagonal_fisher(nn.Conv1d(3, 4, 1), torch.randn(2, 3, 5), labels="exact")
    flat = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
    with pytest.raises(ValueError, match=r"class scores of shape \(n, classes\)"):
        diagonal_fisher(flat, torch.randn(2, 3))
