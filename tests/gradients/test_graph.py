"""What the autograd graph tells about parameters and rows."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from avalanche_ext.gradients.graph import RowOrigins, UnknownRows, between, uses

ROWS = 6


@pytest.fixture
def hidden() -> Tensor:
    """Made of parameters and rows."""
    return torch.randn(ROWS, 3) @ nn.Parameter(torch.randn(4, 3)).t()


def test_each_use_of_a_parameter_counts() -> None:
    parameter, other = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3))
    total = ((parameter + 1) * parameter.exp() + other).sum()
    found = uses(total.grad_fn)
    assert {key: len(use) for key, use in found.items()} == {
        id(parameter): 2,
        id(other): 1,
    }
    assert found[id(other)][0].node.name() == "AddBackward0"
    assert found[id(other)][0].place == 1
    assert uses(None) == {}


def test_between_two_operations() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    hidden = first(torch.randn(2, 3))
    output = second(hidden)
    assert between(output.grad_fn, hidden.grad_fn) == set(map(id, second.parameters()))
    assert between(hidden.grad_fn, None) == set(map(id, first.parameters()))


def test_reentrant_checkpoints_are_refused() -> None:
    layer = nn.Linear(3, 3)
    x = torch.randn(2, 3, requires_grad=True)
    output = checkpoint(layer, x, use_reentrant=True)
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        uses(output.grad_fn)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (torch.tensor([True, False, True, True, False, False]), [0, 2, 3]),
        (torch.tensor([4, 0, 1]), [4, 0, 1]),
        (torch.tensor([-1, 2]), [5, 2]),
        ((torch.tensor([4, 1]), torch.tensor([0, 1])), [4, 1]),
    ],
    ids=["mask", "index", "negative", "elements"],
)
def test_selected_rows(
    index: Tensor | tuple[Tensor, ...], expected: list[int], hidden: Tensor
) -> None:
    some = (hidden[index] * 2).relu()
    found = RowOrigins(ROWS).of(some.grad_fn, len(expected))
    assert found is not None
    assert found.tolist() == expected


def test_index_select_and_a_later_layer(hidden: Tensor) -> None:
    some = hidden.index_select(0, torch.tensor([3, 1]))
    later = nn.Linear(4, 2)(some).tanh()
    found = RowOrigins(ROWS).of(later.grad_fn, 2)
    assert found is not None
    assert found.tolist() == [3, 1]


def test_all_rows(hidden: Tensor) -> None:
    origins = RowOrigins(ROWS)
    assert origins.of(None, ROWS) is None
    assert origins.of(hidden.grad_fn, ROWS) is None
    columns = hidden[:, torch.tensor([1, 0])] + hidden.index_select(1, torch.arange(2))
    assert origins.of(columns.grad_fn, ROWS) is None


def test_rows_written_back(hidden: Tensor) -> None:
    out = torch.zeros(ROWS, 4)
    mask = torch.arange(ROWS) > 2
    out[mask] = hidden[mask]
    out[~mask] = hidden[~mask].exp()
    assert RowOrigins(ROWS).of((out + 1).grad_fn, ROWS) is None


@pytest.mark.parametrize(
    "select",
    [
        lambda h: h[:3],
        lambda h: h[torch.tensor([0, 0, 1])],
        lambda h: h[torch.tensor([0, 1, 2])][torch.tensor([0, 1])],
        lambda h: h[torch.tensor([0, 1])] + h[torch.tensor([2, 3])],
        lambda h: h[torch.tensor([[0, 1], [2, 3]])],
        lambda h: h[h > 0],
        lambda h: h.reshape(-1, 2),
    ],
    ids=["slice", "twice", "again", "two", "table", "elements", "shape"],
)
def test_unknown_rows(select: object, hidden: Tensor) -> None:
    assert callable(select)
    some = select(hidden)
    with pytest.raises(UnknownRows):
        RowOrigins(ROWS).of(some.grad_fn, len(some))


def test_a_long_chain_needs_no_recursion(hidden: Tensor) -> None:
    for _ in range(5000):
        hidden = hidden + 1
    assert RowOrigins(ROWS).of(hidden.grad_fn, ROWS) is None
