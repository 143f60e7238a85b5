"""avalanche_ext/storage/nearest.py: distances kept up to date as rows come and go."""

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from slow_criteria import nearest_distances

from avalanche_ext.storage.nearest import NearestDistance


def rows(n, seed=0, width=5, dtype=torch.float32):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed)).to(
        dtype
    )


class Changes(RuleBasedStateMachine):
    """Any sequence of changes, against a list of vectors compared with each other.

    Vectors are small whole numbers, so that there are equal rows and equal distances.
    """

    def __init__(self):
        super().__init__()
        self.nearest = NearestDistance()
        self.held: list[list[float]] = []
        self.asked = True

    vectors = st.lists(
        st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=1, max_size=6
    )

    @rule(vectors=vectors)
    def insert(self, vectors):
        self.nearest.insert(torch.tensor(vectors, dtype=torch.float32))
        self.held += vectors

    @rule(vectors=vectors, data=st.data())
    def replace(self, vectors, data):
        n = min(len(vectors), len(self.held))
        slots = data.draw(st.permutations(range(len(self.held))))[:n]
        new = torch.tensor(vectors[:n], dtype=torch.float32).view(n, 3)
        self.nearest.replace(torch.tensor(slots, dtype=torch.long), new)
        for slot, vector in zip(slots, vectors, strict=False):
            self.held[slot] = vector

    @rule(vectors=vectors, data=st.data())
    def write(self, vectors, data):
        """Some replace, some continue, as an admission has it."""
        old = data.draw(st.integers(0, min(len(vectors), len(self.held))))
        slots = data.draw(st.permutations(range(len(self.held))))[:old]
        slots += range(len(self.held), len(self.held) + len(vectors) - old)
        self.nearest.write(
            torch.tensor(slots), torch.tensor(vectors, dtype=torch.float32)
        )
        self.held += [[]] * (len(vectors) - old)
        for slot, vector in zip(slots, vectors, strict=True):
            self.held[slot] = vector

    @rule(data=st.data())
    def remove(self, data):
        some = (
            st.sets(st.integers(0, len(self.held) - 1)) if self.held else st.just(set())
        )
        gone = data.draw(some)
        moves = self.nearest.remove(list(gone))
        length = len(self.held) - len(gone)
        for old, new in moves.items():
            self.held[new] = self.held[old]
        del self.held[length:]

    @rule()
    def load(self):
        state = self.nearest.state_dict()
        self.nearest = NearestDistance()
        self.nearest.load_state_dict(state)

    @rule()
    def ask(self):
        """Not after each change: several may come before the distances are wanted."""
        features = torch.tensor(self.held, dtype=torch.float64).view(-1, 3)
        distances = self.nearest.distances
        torch.testing.assert_close(distances.double(), nearest_distances(features))
        if len(self.held):
            point = torch.tensor([[0.5, 0.0, -1.0]])
            exact = (features - point).norm(dim=1).min()
            found = self.nearest.distances_to(point)
            torch.testing.assert_close(found[0].double(), exact)

    @invariant()
    def rows_are_those_held(self):
        assert len(self.nearest) == len(self.held)
        if self.held:
            assert self.nearest.features.tolist() == self.held

    def teardown(self):
        self.ask()


TestChanges = Changes.TestCase
TestChanges.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_many_rows_far_from_the_origin(dtype, offset):
    """Products lose digits where norms are large; the distances given do not."""
    features = rows(700, width=40, dtype=dtype) + offset
    nearest = NearestDistance()
    nearest.insert(features[:300])
    for start in range(300, 700, 7):
        nearest.insert(features[start : start + 7])
        _ = nearest.distances
    expected = nearest_distances(features)
    torch.testing.assert_close(nearest.distances, expected, rtol=1e-5, atol=1e-5)


def test_equal_rows_have_distance_zero():
    nearest = NearestDistance()
    nearest.insert(rows(50, width=100) + 5)
    nearest.insert(nearest.features[7:8].clone())
    assert nearest.distances[7] == 0
    assert nearest.distances[50] == 0
    assert (nearest.distances > 0).sum() == 49


def test_one_row_and_none():
    nearest = NearestDistance()
    assert len(nearest.distances) == 0
    assert nearest.distances_to(rows(2)).tolist() == [torch.inf] * 2
    nearest.insert(rows(1))
    assert nearest.distances.tolist() == [torch.inf]
    nearest.remove([0])
    nearest.insert(rows(3, width=9))
    torch.testing.assert_close(nearest.distances, nearest_distances(rows(3, width=9)))


def test_rows_are_compared_again_only_where_their_neighbour_is_gone():
    """An insertion costs one pass: no row that stays is looked for again."""
    nearest = NearestDistance()
    nearest.insert(rows(200))
    _ = nearest.distances
    looked = []
    original = nearest._nearest
    nearest._nearest = lambda f, own=None: looked.append(len(f)) or original(f, own)
    nearest.insert(rows(10, seed=1))
    _ = nearest.distances
    assert looked == []
    slots = torch.arange(5)
    lost = np.isin(nearest._neighbours[:210].numpy(), slots.numpy())[5:].sum()
    nearest.replace(slots, rows(5, seed=2) + 100)
    _ = nearest.distances
    assert sum(looked) == lost > 0


def test_coverage():
    nearest = NearestDistance()
    nearest.insert(torch.tensor([[0.0, 0.0], [10.0, 0.0]]))
    recent = torch.tensor([[0.0, 1.0], [13.0, 4.0], [10.0, 0.0]])
    assert nearest.coverage(recent) == (2.0, 5.0)
    with pytest.raises(ValueError, match="coverage of no rows"):
        nearest.coverage(recent[:0])


def test_bad_input():
    nearest = NearestDistance()
    nearest.insert(rows(3))
    with pytest.raises(
        ValueError, match="features have 4 numbers, those stored have 5"
    ):
        nearest.insert(rows(2, width=4))
    with pytest.raises(ValueError, match="give one vector a slot"):
        nearest.write(torch.tensor([0]), rows(2))
    with pytest.raises(ValueError, match="none at slot 3"):
        nearest.replace(torch.tensor([3]), rows(1))
    bad = rows(3)
    bad[1, 2] = torch.nan
    with pytest.raises(ValueError, match=r"slots \[1\] are not finite"):
        nearest.replace(torch.arange(3), bad)
    with pytest.raises(ValueError, match="without a gap"):
        nearest.write(torch.tensor([4]), rows(1))
    with pytest.raises(ValueError, match="not all among the 3 held"):
        nearest.remove([3])
    torch.testing.assert_close(nearest.distances, nearest_distances(rows(3)))
