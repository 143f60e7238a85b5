"""Gradient vectors of rows and groups, and cosines."""

from typing import Any

import pytest
import small_networks as networks
import torch
import torch.nn.functional as F
from single_rows import flat, gradient_rows
from torch import Tensor, nn

from avalanche_ext.gradients import (
    cosines,
    gradient_cosines,
    gradient_vectors,
    group_gradients,
    parameter_slices,
    vectors,
)

ROWS = 10


@pytest.fixture(
    params=[networks.mlp, networks.Twice, networks.Centred, networks.Experts]
)
def batch(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A model, rows, labels, and the vectors by the slow way."""
    torch.manual_seed(2)
    model, x = request.param().double(), torch.randn(ROWS, 6).double()
    y = torch.arange(ROWS) % 4
    return model, x, y, flat(gradient_rows(model, F.cross_entropy, x, y))


def test_vectors(batch: Any) -> None:
    model, x, y, expected = batch
    found = gradient_vectors(model, F.cross_entropy, x, y, rows_per_pass=4)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_slices_name_the_columns(batch: Any) -> None:
    model, x, y, _ = batch
    found = gradient_vectors(model, F.cross_entropy, x, y)
    rows = gradient_rows(model, F.cross_entropy, x, y)
    slices = parameter_slices(model)
    assert list(slices) == list(rows)
    for name, values in rows.items():
        torch.testing.assert_close(found[:, slices[name]], values.flatten(1))


def test_named_parameters_alone() -> None:
    model = networks.mlp()
    names = ["3.bias", "0.bias"]  # in the model's order all the same
    assert parameter_slices(model, names) == {
        "0.bias": slice(0, 5),
        "3.bias": slice(5, 9),
    }
    x, y = torch.randn(ROWS, 6), torch.arange(ROWS) % 4
    found = gradient_vectors(model, F.cross_entropy, x, y, parameters=names)
    whole = gradient_vectors(model, F.cross_entropy, x, y)
    slices = parameter_slices(model)
    torch.testing.assert_close(found[:, :5], whole[:, slices["0.bias"]])
    torch.testing.assert_close(found[:, 5:], whole[:, slices["3.bias"]])


def test_groups_have_the_mean_of_their_rows(batch: Any) -> None:
    model, x, y, rows = batch
    groups = torch.tensor([0, 3, 3, 1, 0, 0, 0, 3, 1, 0])
    found = group_gradients(model, F.cross_entropy, x, y, groups, rows_per_pass=2)
    assert found.shape == (4, rows.shape[1])
    for group in (0, 1, 3):
        torch.testing.assert_close(found[group], rows[groups == group].mean(0))
    assert not found[2].any()


@pytest.mark.parametrize("block", [1, 3, 100])
def test_cosines_of_rows(
    batch: Any, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x, y, rows = batch
    unit = rows / rows.norm(dim=1, keepdim=True)
    size = rows.shape[1] * rows.element_size()
    monkeypatch.setattr(vectors, "_BLOCK_BYTES", block * size)
    found = gradient_cosines(model, F.cross_entropy, x, y)
    torch.testing.assert_close(found, unit @ unit.T)
    against = torch.randn(3, rows.shape[1]).double()
    found = gradient_cosines(model, F.cross_entropy, x, y, against=against)
    torch.testing.assert_close(found, F.cosine_similarity(rows[:, None], against, 2))


def test_cosines_of_zeros_are_zero() -> None:
    a = torch.tensor([[0.0, 0.0], [3.0, 4.0], [-6.0, -8.0]])
    expected = torch.tensor([[0.0, 0, 0], [0, 1, -1], [0, -1, 1]])
    torch.testing.assert_close(cosines(a), expected)


def test_bad_arguments() -> None:
    model, x, y = networks.mlp(), torch.randn(ROWS, 6), torch.arange(ROWS) % 4
    with pytest.raises(ValueError, match=r"it must be \(m, 59\)"):
        gradient_cosines(model, F.cross_entropy, x, y, against=torch.zeros(2, 58))
    with pytest.raises(ValueError, match="is for norms"):
        gradient_vectors(model, F.cross_entropy, x, y, parameters="last")
    with pytest.raises(ValueError, match="groups has 3 rows"):
        group_gradients(model, F.cross_entropy, x, y, torch.zeros(3))


def test_no_rows() -> None:
    model, x = networks.mlp(), torch.zeros(0, 6)
    y = torch.zeros(0, dtype=torch.long)
    assert gradient_vectors(model, F.cross_entropy, x, y).shape == (0, 59)
    assert group_gradients(model, F.cross_entropy, x, y, y).shape == (0, 59)
    assert gradient_cosines(model, F.cross_entropy, x, y).shape == (0, 0)
