"""avalanche_ext/storage/draws.py against draws made one call at a time."""

import io

import pytest
import torch

from avalanche_ext.storage.draws import Draws
from avalanche_ext.storage.uniform import uniform


def test_a_memory_that_grows_makes_each_draw_when_it_is_asked_for():
    draws, generator = Draws(seed=3), torch.Generator().manual_seed(3)
    for stored in (5, 6, 6, 7, 20, 20):
        expected = uniform(stored, 4, generator)[0]
        assert torch.equal(draws.uniform(stored, 4), expected)
    assert torch.equal(draws.generator.get_state(), generator.get_state())


def test_a_full_memory_hands_out_draws_made_together():
    draws, generator = Draws(seed=3), torch.Generator().manual_seed(3)
    for _ in range(2):
        block = uniform(50, 4, generator, 128)
        for expected in block:
            assert torch.equal(draws.uniform(50, 4, full=True), expected)
    assert torch.equal(draws.generator.get_state(), generator.get_state())


@pytest.mark.parametrize("stored", [0, 3, 4])
def test_all_rows_are_in_order_and_draw_no_number(stored):
    draws = Draws(seed=3)
    before = draws.generator.get_state()
    for full in (False, True):
        index = draws.uniform(stored, 4, full=full)
        assert index.tolist() == list(range(stored))
        assert index.dtype == torch.int64
    assert torch.equal(draws.generator.get_state(), before)


def test_draws_ahead_are_of_the_rows_and_the_size_asked_for():
    draws = Draws(seed=3)
    for stored, size in ((50, 4), (20, 4), (20, 5), (50, 4), (60, 4)):
        index = draws.uniform(stored, size, full=True)
        assert index.shape == (size,)
        assert len(set(index.tolist())) == size
        assert 0 <= index.min() <= index.max() < stored


def test_asking_for_all_rows_keeps_the_draws_ahead():
    one, other = Draws(seed=3), Draws(seed=3)
    for draws in (one, other):
        draws.uniform(50, 4, full=True)
    one.uniform(50, 60, full=True)
    assert torch.equal(one.uniform(50, 4, full=True), other.uniform(50, 4, full=True))


@pytest.mark.parametrize("made", [0, 1, 100, 128, 129])
@pytest.mark.parametrize("full", [False, True])
def test_loaded_draws_go_on(made, full):
    one, other = Draws(seed=3), Draws(seed=8)
    other.uniform(50, 4, full=True)  # forgotten by loading
    for _ in range(made):
        one.uniform(50, 4, full=full)
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(150):
        expected = one.uniform(50, 4, full=full)
        assert torch.equal(other.uniform(50, 4, full=full), expected)
