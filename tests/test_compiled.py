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


def close(found: object, expected: object, kind: torch.dtype, size: float = 1) -> None:
    near = (1e-6 if kind is torch.float32 else 1e-14) * size
    torch.testing.assert_close(found, expected, rtol=near, atol=near)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_pull(size: int, kind: torch.dtype):
    at, anchor, curvature, gradient = random(size, kind, 4)
    kept = [values.clone() for values in (at, anchor, curvature)]
    found = compiled.pull(
        *[compiled.flat(t) for t in (at, anchor, curvature, gradient)]
    )
    away = at.double() - anchor.double()
    close(gradient.double(), curvature.double() * away, kind)
    close(found, float((curvature.double() * away.square()).sum()), kind, size + 1)
    for values, before in zip((at, anchor, curvature), kept, strict=True):
        assert torch.equal(values, before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_both_in_one(size: int, kind: torch.dtype):
    one, other = random(size, kind, 6), random(size, kind, 6)
    found = compiled.advance_and_pull(*[compiled.flat(t) for t in one])
    at, last, slope, integral, anchor, curvature = other
    compiled.advance(*[compiled.flat(t) for t in (at, last, slope, integral)])
    pulled = [compiled.flat(t) for t in (at, anchor, curvature, slope)]
    close(found, compiled.pull(*pulled), kind, size + 1)
    for a, b in zip(one, other, strict=True):
        close(a, b, kind)


def test_a_long_sum_keeps_what_single_precision_would_lose():
    at = torch.ones(30_000_000)  # above 2 ** 24
    curvature = torch.full_like(at, 0.1)
    flat = [compiled.flat(t) for t in (at, 0 * at, curvature, at.clone())]
    assert compiled.pull(*flat) == pytest.approx(3_000_000, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_advance(size: int, kind: torch.dtype):
    at, last, slope, integral = random(size, kind, 4)
    expected = integral.double() + slope.double() * (at.double() - last.double())
    compiled.advance(*[compiled.flat(t) for t in (at, last, slope, integral)])
    close(integral.double(), expected, kind)
    assert torch.equal(last, at)


def test_what_is_no_number_stays_so():
    at = torch.tensor([1.0, torch.nan, torch.inf, 2.0])
    zero, one, out = torch.zeros(4), torch.ones(4), torch.zeros(4)
    flat = [compiled.flat(t) for t in (at, zero, one, out)]
    assert compiled.pull(*flat) != compiled.pull(*flat)  # NaN
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


@pytest.mark.parametrize("error", [OSError("disk full"), EOFError("truncated")])
def test_what_is_kept_may_be_damaged(error: Exception, monkeypatch: pytest.MonkeyPatch):
    make = numba.njit

    def njit(cache: bool = False, **how: object) -> object:
        def damaged(function: object) -> object:
            def call(*arguments: object) -> object:
                raise error

            return call

        return damaged if cache else make(**how)

    monkeypatch.setattr(numba, "njit", njit)
    doubled = compiled._compiled(lambda x: x * 2)
    assert doubled(2.5) == 5
    assert doubled(1.5) == 3


@pytest.mark.parametrize(("value", "used"), [("1", False), ("0", True), ("", True)])
def test_where_numba_is_told_not_to_compile(
    value: str, used: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", value)
    assert (compiled.arrays(torch.zeros(3)) is not None) is used


def test_a_pass_may_ask_for_what_is_no_number(monkeypatch: pytest.MonkeyPatch):
    """Which is compiled away by flags that take it for granted that there is none."""
    make = numba.njit  # anew, since what is kept does not depend on flags
    monkeypatch.setattr(numba, "njit", lambda cache=False, **how: make(**how))
    is_nan = compiled._compiled(lambda x: x != x)
    assert [is_nan(x) for x in (torch.nan, 1.0)] == [True, False]
    is_finite = compiled._compiled(lambda x: x - x == 0)
    assert [is_finite(x) for x in (torch.inf, 1.0)] == [False, True]
