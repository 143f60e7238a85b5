"""The forms of gradients agree with the gradients themselves."""

import pytest
import torch
from torch import Tensor

from avalanche_ext.gradients import factors
from avalanche_ext.gradients.factors import Direct, Factor, Lookup, Outer

ROWS = 5


def outer(groups: int, outputs: int, inputs: int, places: int) -> tuple[Outer, Tensor]:
    delta = torch.randn(ROWS, groups, outputs, places, dtype=torch.float64)
    values = torch.randn(ROWS, groups, inputs, places, dtype=torch.float64)
    shape = torch.Size((groups * outputs, inputs))
    rows = torch.zeros(ROWS, groups, outputs, inputs, dtype=torch.float64)
    for place in range(places):
        rows += delta[..., place, None] * values[..., None, :, place]
    return Outer(delta, values, shape), rows.reshape(ROWS, *shape)


def agree(factor: Factor, rows: Tensor) -> None:
    weights = torch.rand(ROWS, dtype=torch.float64)
    flat = rows.reshape(ROWS, -1)
    torch.testing.assert_close(factor.rows(), rows)
    torch.testing.assert_close(factor.square_norms(), (flat**2).sum(1))
    expected = torch.stack([w * g**2 for w, g in zip(weights, rows, strict=True)])
    torch.testing.assert_close(factor.square_sum(weights), expected.sum(0))


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(
    ("outputs", "inputs", "places"),
    [(4, 6, 1), (20, 30, 2), (2, 3, 7)],
    ids=["one place", "few places", "many places"],
)
@pytest.mark.parametrize("block", [1, 700, 1 << 20])
def test_outer(
    groups: int,
    outputs: int,
    inputs: int,
    places: int,
    block: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(factors._BLOCK_BYTES, "cpu", block)
    torch.manual_seed(0)
    agree(*outer(groups, outputs, inputs, places))


@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 3)])
def test_direct(shape: tuple[int, ...]) -> None:
    rows = torch.randn(ROWS, *shape, dtype=torch.float64)
    agree(Direct(rows), rows)


def test_lookup_adds_what_is_looked_up_twice() -> None:
    torch.manual_seed(0)
    index = torch.randint(0, 4, (ROWS, 6))
    delta = torch.randn(ROWS, 6, 2, dtype=torch.float64)
    rows = torch.zeros(ROWS, 4, 2, dtype=torch.float64)
    for row in range(ROWS):
        for place in range(6):
            rows[row, index[row, place]] += delta[row, place]
    agree(Lookup(delta, index, torch.Size((4, 2))), rows)
