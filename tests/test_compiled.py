"""avalanche_ext/compiled.py against the same in several operations."""

import numba
import pytest
import torch
from torch import Tensor

from avalanche_ext import compiled

SIZES = (0, 1, 5, 2048, 2049, 10_000)
KINDS = (torch.float32, torch.float64)


def random(size: int, kind: torch.dtype, count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(size)
    return [torch.randn(size, generator=generator).to(kind) for _ in range(count)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("copied", [False, True])
def test_pull(size: int, kind: torch.dtype, copied: bool):
    at, anchor, curvature, gradient, copy = random(size, kind, 5)
    kept = [values.clone() for values in (at, anchor, curvature)]
    into = compiled.flat(copy) if copied else None
    flat = [compiled.flat(t) for t in (at, anchor, curvature, gradient)]
    found = compiled.pull(*flat, into)
    away = at.double() - anchor.double()
    tolerance = {"rtol": 1e-6 if kind is torch.float32 else 1e-14, "atol": 0.0}
    pull = away * curvature.double()
    torch.testing.assert_close(
        gradient.double(), pull, rtol=tolerance["rtol"], atol=1e-6 * tolerance["rtol"]
    )
    torch.testing.assert_close(
        found, float((pull * away).sum()), rtol=tolerance["rtol"], atol=1e-6
    )
    if copied:
        assert torch.equal(copy, gradient)
    for values, before in zip((at, anchor, curvature), kept, strict=True):
        assert torch.equal(values, before)


def test_a_long_sum_keeps_what_single_precision_would_lose():
    ones = torch.ones(30_000_000)
    flat = [compiled.flat(t) for t in (ones, 0 * ones, ones, ones.clone())]
    assert compiled.pull(*flat, None) == 30_000_000  # above 2 ** 24


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_advance(size: int, kind: torch.dtype):
    at, last, slope, integral = random(size, kind, 4)
    expected = integral.double() + slope.double() * (at.double() - last.double())
    compiled.advance(*[compiled.flat(t) for t in (at, last, slope, integral)])
    close = 1e-6 if kind is torch.float32 else 1e-14
    torch.testing.assert_close(integral.double(), expected, rtol=close, atol=close)
    assert torch.equal(last, at)


def test_what_is_no_number_stays_so():
    at = torch.tensor([1.0, torch.nan, torch.inf, 2.0])
    zero, one, out = torch.zeros(4), torch.ones(4), torch.zeros(4)
    flat = [compiled.flat(t) for t in (at, zero, one, out)]
    assert compiled.pull(*flat, None) != compiled.pull(*flat, None)  # NaN
    torch.testing.assert_close(out, at, equal_nan=True)
    integral = torch.zeros(4)
    compiled.advance(*[compiled.flat(t) for t in (at, zero, one, integral)])
    torch.testing.assert_close(integral, at, equal_nan=True)


def test_arrays_are_of_the_same_memory():
    weight = torch.nn.Linear(3, 2).weight
    found = compiled.arrays(weight, torch.zeros(2, 3))
    assert found is not None
    found[0][4] = 7
    assert weight[1, 1] == 7


@pytest.mark.parametrize(
    "tensors",
    [
        (torch.zeros(4, 3).t(), torch.zeros(4, 3).t()),
        (torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last),),
        (torch.zeros(3), torch.zeros(3).double()),
        (torch.zeros(3, dtype=torch.bfloat16),),
        (torch.zeros(3), torch.zeros(3, device="meta")),
    ],
)
def test_what_torch_is_left_to_do(tensors: tuple[Tensor, ...]):
    assert compiled.arrays(*tensors) is None


def test_large_tensors_are_torchs_where_it_has_many_threads(
    monkeypatch: pytest.MonkeyPatch,
):
    large, small = torch.zeros(40_000), torch.zeros(30_000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert compiled.arrays(large) is None
    assert compiled.arrays(small) is not None
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert compiled.arrays(large) is not None


def test_where_there_is_no_folder_to_keep_it(monkeypatch: pytest.MonkeyPatch):
    make = numba.njit

    def njit(cache: bool = False, **how: object) -> object:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return make(**how)

    monkeypatch.setattr(numba, "njit", njit)
    doubled = compiled._compiled(lambda x: x * 2)
    assert doubled(2.5) == 5
