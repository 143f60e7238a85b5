"""Every kind of network gives what a backward pass for each row gives."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import small_networks as networks
import torch
import torch.nn.functional as F
from single_rows import flat, gradient_rows, norms_of, squares_of
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from avalanche_ext.gradients import (
    diagonal_fisher,
    gradient_norms,
    gradient_vectors,
    inspect_gradients,
)

ROWS = 9


def numbers(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(ROWS, *shape)


def words() -> Tensor:
    return torch.randint(0, 11, (ROWS, 5))


def nested() -> dict[str, Tensor]:
    return {"image": torch.randn(ROWS, 2, 2), "numbers": torch.randn(ROWS, 2)}


# Network, input, and the parameters that no formula is for.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any], set[str]]] = {
    "mlp": (networks.mlp, numbers(6), set()),
    "convolutions": (networks.convolutions, numbers(4, 9, 9), set()),
    "one place": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(6, 4)
        ),
        numbers(4, 3, 3),
        set(),
    ),
    "volumes": (
        lambda: nn.Sequential(
            nn.Conv3d(2, 3, 2, padding=1),
            nn.BatchNorm3d(3),
            nn.Flatten(),
            nn.Linear(81, 4),
        ),
        numbers(2, 2, 2, 2),
        set(),
    ),
    "sequences": (networks.Sequences, words, {"shift"}),
    "no padding": (lambda: networks.Sequences(padding=None), words, {"shift"}),
    "added": (networks.Added, numbers(6), set()),
    "residual": (networks.Residual, numbers(4, 6, 6), set()),
    "changed input": (networks.ChangedInput, numbers(6), set()),
    "experts": (networks.Experts, numbers(6), set()),
    "experts in order": (lambda: networks.Experts(order=True), numbers(6), set()),
    "checkpointed": (networks.Checkpointed, numbers(6), set()),
    "nested input": (networks.Pair, nested, set()),
    "twice": (networks.Twice, numbers(6), {"layer.weight", "layer.bias"}),
    "tied": (networks.Tied, numbers(6), {"layer.weight"}),
    "shared parameter": (networks.SharedParameter, numbers(6), {"first.weight"}),
    "own forward": (
        lambda: nn.Sequential(nn.Tanh(), networks.OwnForward(6, 4)),
        numbers(6),
        {"1.weight", "1.bias"},
    ),
    "weight norm": (
        lambda: nn.Sequential(weight_norm(nn.Linear(6, 4))),
        numbers(6),
        {"0.parametrizations.weight.original0", "0.parametrizations.weight.original1"},
    ),
    "places first": (networks.PlacesFirst, numbers(6), {"layer.weight", "layer.bias"}),
    "as many places as rows": (
        lambda: networks.PlacesFirst(ROWS),
        numbers(6),
        {"layer.weight", "layer.bias"},
    ),
    "three places": (
        lambda: networks.PlacesFirst(3),
        numbers(6),
        {"layer.weight", "layer.bias"},
    ),
    "tokens": (networks.Tokens, numbers(6), {"layer.weight", "layer.bias"}),
    "flipped": (networks.Flipped, numbers(6), {"layer.weight", "layer.bias"}),
    "centred": (networks.Centred, numbers(6), {"layer.weight", "layer.bias"}),
    "batch statistics": (
        networks.normalised,
        numbers(6),
        {"0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias", "5.weight"}
        | {"5.bias"},
    ),
    "attention": (
        networks.Attention,
        numbers(5, 8),
        {
            f"layer.self_attn.{name}"
            for name in ("in_proj_weight", "in_proj_bias", "out_proj.weight")
        }
        | {"layer.self_attn.out_proj.bias"},
    ),
    "recurrent": (
        networks.Recurrent,
        numbers(5, 8),
        {
            f"layer.{kind}_{side}_l0"
            for kind in ("weight", "bias")
            for side in ("ih", "hh")
        },
    ),
}


@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
def test_equals_a_pass_for_each_row(name: str, double: bool) -> None:
    make, inputs, refused = NETWORKS[name]
    torch.manual_seed(3)
    model, x, y = make(), inputs(), torch.arange(ROWS) % networks.CLASSES
    own = gradient_rows(model, F.cross_entropy, x, y)
    exact = gradient_rows(copy.deepcopy(model).double(), F.cross_entropy, wide(x), y)
    if double:
        model, x, own = model.double(), wide(x), exact

    def agree(found: Tensor, quantity: Callable[[dict[str, Tensor]], Tensor]) -> None:
        expected = quantity(exact)
        if double:
            assert torch.allclose(found, expected, rtol=1e-8, atol=1e-8)
            return
        assert found.dtype == torch.float32
        # Where single precision is not enough for 1e-6, neither is it for the loop.
        slow = (quantity(own) - expected).norm()
        assert (found - expected).norm() <= max(1e-6 * expected.norm(), 3 * slow)

    inspection = inspect_gradients(model, x)
    for rows_per_pass in (None, 4):
        batch = {"rows_per_pass": rows_per_pass, "inspection": inspection}
        agree(gradient_norms(model, F.cross_entropy, x, y, **batch), norms_of)
        vectors = gradient_vectors(model, F.cross_entropy, x, y, **batch)
        agree(vectors, flat)
        squares = diagonal_fisher(model, x, y, labels="empirical", **batch)
        assert list(squares) == list(own)
        agree(flat_squares(squares), lambda rows: flat_squares(squares_of(rows)))
        for parameter, square in squares.items():
            agree(square, lambda rows, p=parameter: squares_of(rows)[p])
    assert set(inspection.refused) == refused
    assert inspection.formulas == set(own) - refused


def wide(batch: Any) -> Any:
    if isinstance(batch, dict):
        return {name: wide(value) for name, value in batch.items()}
    return batch.double() if batch.is_floating_point() else batch


def flat_squares(squares: dict[str, Tensor]) -> Tensor:
    return torch.cat([square.flatten() for square in squares.values()])
