"""avalanche_ext/plugins/replay_presets.py: memories and options by name."""

import pytest
import torch

from avalanche_ext import (
    MultiStrategyBuffer,
    class_balanced_replay,
    er_ring,
    reservoir_replay,
)


def test_er_ring_sizes():
    assert er_ring(50, seed=0).buffer.max_size == 50
    buffer = er_ring(per_class=3, batch_size_mem=10, seed=0).buffer
    for label in (0, 4, 4, 2):
        buffer.add(torch.zeros(20, 1), torch.full((20,), label))
    assert buffer.class_counts() == {0: 3, 2: 3, 4: 3}
    assert (len(buffer), buffer.max_size, buffer.table.capacity) == (9, 9, 9)
    loaded = er_ring(per_class=3, seed=1).buffer
    loaded.load_state_dict(buffer.state_dict())
    loaded.add(torch.zeros(5, 1), torch.full((5,), 7))
    assert loaded.class_counts() == {0: 3, 2: 3, 4: 3, 7: 3}
    with pytest.raises(ValueError, match="er_ring needs n, the rows of the memory, or"):
        er_ring()
    with pytest.raises(ValueError, match="max_size=None needs the rows a class"):
        MultiStrategyBuffer(None)


@pytest.mark.parametrize("preset", [reservoir_replay, er_ring, class_balanced_replay])
def test_unknown_options_of_a_preset_are_named(preset):
    options = {"per_class": 3} if preset is er_ring else {}
    with pytest.raises(TypeError, match=f"{preset.__name__} has no option 'mem_size'"):
        preset(mem_size=50, **options)
    with pytest.raises(TypeError, match=r"'size', 'buffer': it takes n, .*, feed") as e:
        preset(9, size=50, buffer=None, **options)
    assert ("per_class" in str(e.value)) == (preset is er_ring)
