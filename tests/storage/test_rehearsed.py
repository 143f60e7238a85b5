"""avalanche_ext/storage/rehearsed.py: whose rows a minibatch holds."""

import pytest
import torch

from avalanche_ext.storage.rehearsed import RehearsedBatch


def rows(value, n, names=("image",)):
    return [
        {name: torch.full((n, 2), value) for name in names},
        torch.full((n,), value),
    ]


def test_rows_of_several_memories_follow_the_current_ones():
    incoming = rows(0.0, 3)
    batch = RehearsedBatch(incoming)
    for memory in (rows(1.0, 2), None, rows(2.0, 1)):
        batch.append_rows(memory)
    assert batch.layout == [3, 2, 0, 1]
    assert batch[0]["image"][:, 0].tolist() == batch[1].tolist() == [0, 0, 0, 1, 1, 2]
    assert batch.incoming is incoming
    assert len(incoming[1]) == 3


def test_nothing_is_left_behind_by_rows_that_do_not_fit():
    batch = RehearsedBatch(rows(0.0, 3))
    with pytest.raises(ValueError, match="memory rows have inputs"):
        batch.append_rows(rows(1.0, 2, ("other",)))
    assert batch.layout == [3]
    assert len(batch[1]) == 3
