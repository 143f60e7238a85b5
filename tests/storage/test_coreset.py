"""avalanche_ext/storage/coreset.py against the obvious loop."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from slow_criteria import k_center_loop as obvious
from torch.utils._python_dispatch import TorchDispatchMode

from avalanche_ext.storage import coreset
from avalanche_ext.storage.coreset import Coreset, k_center


def gaussian(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "d", "k"), [(60, 1, 12), (80, 7, 20), (50, 128, 49)])
def test_equals_the_obvious_loop(n, d, k, dtype):
    features = gaussian(n, d).to(dtype)
    assert k_center(features, k).tolist() == obvious(features, k)
    assert k_center(features, k, start=5).tolist() == obvious(features, k, start=5)


@pytest.mark.parametrize("block", [1, 30, 64, 10**6])
def test_blocks_do_not_matter(block, monkeypatch):
    features = gaussian(50, 6)
    expected = obvious(features, 20)
    monkeypatch.setattr(coreset, "_BLOCK_CPU", block)
    assert k_center(features, 20).tolist() == expected


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=9),
    st.integers(0, 10),
    st.booleans(),
)
def test_ties_and_duplicates_take_the_first(points, k, with_centers):
    """Small integers: all distances are exact, many are equal, many rows are the same."""
    features = torch.tensor(points, dtype=torch.float32)
    centers = features[:1] + 1 if with_centers else None
    start = None if with_centers else len(points) - 1
    chosen = k_center(features, k, start=start, centers=centers)
    assert chosen.dtype is torch.int64
    if k < len(points):
        assert chosen.tolist() == obvious(features, k, start, centers)
    else:
        assert chosen.tolist() == list(range(len(points)))


def test_all_rows_the_same():
    assert k_center(torch.ones(5, 3), 4, start=2).tolist() == [2, 0, 1, 3]


def test_small_distances_between_large_features():
    """Squared norms of 1e9 beside squared distances of 1: float32 has 7 digits."""
    features = gaussian(100, 8) + 1e4
    assert k_center(features, 60).tolist() == obvious(features, 60)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float16])
def test_other_dtypes_are_computed_in_float32(dtype):
    features = torch.randint(
        0, 256, (60, 5), generator=torch.Generator().manual_seed(0)
    ).to(dtype)
    assert k_center(features, 20).tolist() == obvious(features, 20)


def test_centers_are_covered_already():
    features, centers = gaussian(60, 4), gaussian(7, 4, seed=1)
    expected = obvious(features, 15, centers=centers)
    assert k_center(features, 15, centers=centers).tolist() == expected
    both = obvious(features, 15, start=3, centers=centers)
    assert k_center(features, 15, start=3, centers=centers).tolist() == both
    none = k_center(features, 15, centers=centers[:0])
    assert torch.equal(none, k_center(features, 15))


def test_a_longer_choice_continues_a_shorter_one():
    features = gaussian(60, 4)
    assert torch.equal(k_center(features, 30)[:10], k_center(features, 10))


@pytest.mark.parametrize("seed", range(5))
def test_the_radius_is_at_most_twice_the_best(seed):
    features = gaussian(10, 2, seed)
    distances = torch.cdist(features, features)

    def radius(chosen):
        return float(distances[:, list(chosen)].min(1).values.max())

    best = min(radius(c) for c in itertools.combinations(range(10), 3))
    for start in range(10):
        assert radius(k_center(features, 3, start=start).tolist()) <= 2 * best


@pytest.mark.parametrize("k", [6, 7, 100])
def test_k_from_n_on_is_all_rows(k):
    assert k_center(gaussian(6, 2), k, start=4).tolist() == list(range(6))


def test_no_rows():
    assert k_center(gaussian(6, 2), 0).tolist() == []
    assert k_center(torch.zeros(0, 3), 2).tolist() == []
    assert k_center(torch.zeros(3, 0), 2, start=1).tolist() == [1, 0]


class Largest(TorchDispatchMode):
    """The most bytes of one tensor that is made."""

    def __init__(self):
        super().__init__()
        self.bytes, self._known = 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        given = {
            t.untyped_storage().data_ptr()
            for t in torch.utils._pytree.tree_leaves((args, kwargs))
            if isinstance(t, torch.Tensor)
        }
        for tensor in torch.utils._pytree.tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in given:
                    self.bytes = max(self.bytes, storage.nbytes())
        return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_memory_is_a_row_of_distances_and_a_block(dtype):
    features = torch.rand(40_000, 64).to(dtype)
    with Largest() as largest:
        k_center(features, 3)
    assert largest.bytes <= max(4 * 40_000, 4 * coreset._BLOCK_CPU)


def test_features_are_left_as_they_are():
    features = gaussian(30, 4)
    before = features.clone()
    k_center(features.requires_grad_(), 10)
    assert torch.equal(features, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": torch.zeros(4)}, r"shape \(n, d\), got \(4,\)"),
        ({"features": torch.zeros(4, 2, 2)}, "flatten each row"),
        ({"k": -1}, "k must be a number of rows"),
        ({"start": 4}, "one of the 4 rows, 0 … 3, got 4"),
        ({"start": -1}, "got -1"),
        ({"centers": torch.zeros(2, 3)}, r"shape \(m, 2\)"),
        ({"centers": torch.full((1, 2), torch.inf)}, "centers are not finite"),
        (
            {"features": torch.tensor([[0.0], [torch.nan], [1.0]])},
            "of 1 of 3 rows.*row 1",
        ),
        ({"features": torch.tensor([[0.0], [1e30], [1.0]])}, "scale the features down"),
    ],
)
def test_bad_input(change, message):
    given_ = {"features": torch.zeros(4, 2), "k": 2, **change}
    with pytest.raises(ValueError, match=message):
        k_center(**given_)


# Sampling


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_draw_starts_anywhere():
    features = gaussian(12, 3)
    generator = seeded()
    starts = set()
    for _ in range(100):
        draw = Coreset().draw(4, features, generator)
        start = int(draw.index[0])
        assert draw.index.tolist() == obvious(features, 4, start)
        assert torch.equal(draw.weight, torch.ones(4))
        starts.add(start)
    assert starts == set(range(12))


def test_a_draw_is_given_by_the_seed():
    features = gaussian(100, 3)
    one = [Coreset().draw(4, features, seeded(1)).index for _ in range(2)]
    assert torch.equal(*one)


@pytest.mark.parametrize("n", [6, 9])
def test_a_draw_of_all_rows(n):
    generator = seeded()
    draw = Coreset().draw(n, gaussian(6, 2), generator)
    assert draw.index.tolist() == list(range(6))
    assert draw.weight.tolist() == [1.0] * 6
    assert torch.equal(generator.get_state(), seeded().get_state())
    assert Coreset().draw(0, gaussian(6, 2), generator).index.shape == (0,)
