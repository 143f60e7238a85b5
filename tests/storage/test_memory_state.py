"""avalanche_ext/storage/memory.py: the same seed or state, the same memory and draws."""

import pytest
import torch
from memories import ADMISSIONS, assert_same, inputs, through_disk

from avalanche_ext.storage import MultiStrategyBuffer


def stream(n=120, seed=0):
    """Batches of random sizes with labels that come and go; x, y, task."""
    g = torch.Generator().manual_seed(seed)
    start = 0
    while start < n:
        size = int(torch.randint(1, 9, (), generator=g))
        numbers = torch.arange(start, start + size)
        y = torch.randint(0, 1 + min(4, 1 + start // 25), (size,), generator=g)
        yield inputs(numbers), y, y // 2
        start += size


def step(buffer, batch):
    """One training step of a rehearsal method: what it draws, and what is kept."""
    drawn = buffer.sample(4)["index"].tolist() if len(buffer) else []
    return drawn, buffer.add(*batch).tolist()


@pytest.mark.parametrize("admission", ADMISSIONS)
def test_same_seed_same_memory_and_draws(admission):
    def run(seed):
        buffer = MultiStrategyBuffer(11, admission=admission, seed=seed)
        return [step(buffer, batch) for batch in stream()], buffer

    one, other = run(3), run(3)
    assert one[0] == other[0]
    assert_same(one[1], other[1])
    assert run(4)[0] != one[0]


@pytest.mark.parametrize("admission", ADMISSIONS)
def test_without_a_seed_the_global_generator_decides(admission):
    def run():
        buffer = MultiStrategyBuffer(11, admission=admission)
        return [step(buffer, batch) for batch in stream()]

    torch.manual_seed(7)
    first, second = run(), run()
    torch.manual_seed(7)
    assert run() == first
    assert second != first


@pytest.mark.parametrize("admission", ADMISSIONS)
def test_seeded_memory_leaves_the_global_generator_alone(admission):
    state = torch.get_rng_state()
    buffer = MultiStrategyBuffer(11, admission=admission, seed=3)
    for batch in stream():
        step(buffer, batch)
    buffer.evict(3)
    buffer.resize(None, 7)
    buffer.load_state_dict(through_disk(buffer.state_dict()))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("stop", [0, 1, 2, 7, 15, 22])
@pytest.mark.parametrize("admission", ADMISSIONS)
def test_loaded_memory_goes_on_bit_for_bit(admission, stop):
    """The same slots, the same draws, at whatever moment the state was taken."""
    batches = list(stream())
    through = MultiStrategyBuffer(11, admission=admission, seed=3)
    expected = [step(through, batch) for batch in batches]

    before = MultiStrategyBuffer(11, admission=admission, seed=3)
    steps = [step(before, batch) for batch in batches[:stop]]
    state = through_disk(before.state_dict())
    after = MultiStrategyBuffer(11, admission=admission, seed=99)
    after.load_state_dict(state)
    assert steps + [step(after, batch) for batch in batches[stop:]] == expected
    assert_same(after, through)
    # Taking the state changed nothing for the one it was taken from.
    assert steps + [step(before, batch) for batch in batches[stop:]] == expected
    # And both go on alike through what makes room.
    for buffer in (after, before):
        buffer.evict(4)
        buffer.resize(None, 6)
        for batch in stream(40, seed=1):
            step(buffer, batch)
    assert_same(after, before)


@pytest.mark.parametrize("admission", ADMISSIONS)
def test_a_state_in_use_is_not_shared(admission):
    """Loaded without a file, two memories still do not write into each other."""
    one = MultiStrategyBuffer(11, admission=admission, seed=3)
    for batch in stream():
        step(one, batch)
    state = one.state_dict()
    other = MultiStrategyBuffer(11, admission=admission, seed=5)
    other.load_state_dict(state)
    third = MultiStrategyBuffer(11, admission=admission, seed=6)
    third.load_state_dict(through_disk(state))
    for batch in stream(60, seed=2):
        step(one, batch)
    assert_same(other, third)
    assert [step(other, b) for b in stream(60, seed=4)] == [
        step(third, b) for b in stream(60, seed=4)
    ]


@pytest.mark.parametrize("admission", ADMISSIONS)
def test_loading_over_a_used_memory(admission):
    """What the memory knew before is gone: rows, counters, draws made ahead."""
    one = MultiStrategyBuffer(11, admission=admission, seed=3)
    used = MultiStrategyBuffer(6, admission=admission, seed=5)
    for batch in stream(60):
        step(one, batch)
    for batch in stream(90, seed=8):
        step(used, batch)
    used.draw(4)  # not counted yet: of rows that are gone
    used.load_state_dict(through_disk(one.state_dict()))
    assert_same(used, one)
    for batch in stream(60, seed=2):
        assert step(used, batch) == step(one, batch)
    assert_same(used, one)


def test_draws_that_wait_to_be_counted_are_few():
    """Where no row arrives nobody reads the uses, and draws would pile up."""
    memory = MultiStrategyBuffer(11, seed=3)
    memory.add(inputs(torch.arange(11)), torch.zeros(11, dtype=torch.long))
    for _ in range(1000):
        memory.draw(4)
        assert len(memory._drawing._used) <= 256
    assert int(memory.uses.sum()) == 4000
