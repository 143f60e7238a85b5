"""avalanche_ext/storage/rows.py: tensors and nested mappings alike."""

from collections import UserDict

import pytest
import torch
from tensordict import TensorDict

from avalanche_ext.storage import rows


def nested(n):
    x = torch.arange(n * 2.0).view(n, 2)
    return {"image": x, "text": {"ids": torch.arange(n), "mask": x > 1}}


def test_each_function_equals_its_plain_form_on_every_leaf():
    a, b = nested(5), nested(3)
    assert rows.count(a) == 5
    assert [name for name, _ in rows.leaves(a)] == ["image", "text.ids", "text.mask"]
    index = torch.tensor([4, 0])
    taken, part, joined = rows.take(a, index), rows.part(a, 1, 3), rows.join(a, b)
    for name, leaf in rows.leaves(a):
        other = dict(rows.leaves(b))[name]
        assert torch.equal(dict(rows.leaves(taken))[name], leaf[index])
        assert torch.equal(dict(rows.leaves(part))[name], leaf[1:3])
        assert torch.equal(dict(rows.leaves(joined))[name], torch.cat((leaf, other)))


@pytest.mark.parametrize("kind", [dict, UserDict, TensorDict])
def test_join_keeps_the_mapping_type_of_the_batch(kind):
    flat = {"a": torch.zeros(2, 3), "b": torch.ones(2)}
    batch = TensorDict(flat, batch_size=[2]) if kind is TensorDict else kind(flat)
    joined = rows.join(batch, flat)
    assert type(joined) is kind
    assert rows.count(joined) == 4


def test_errors_name_what_differs():
    with pytest.raises(ValueError, match=r"one number of rows.*'a': 2, 'b': 3"):
        rows.count({"a": torch.zeros(2), "b": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"uint8 \(4,\) cannot join .*float32 \(4,\)"):
        rows.join(torch.zeros(1, 4), torch.zeros(1, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="both must be tensors or mappings"):
        rows.join(torch.zeros(1, 4), {"a": torch.zeros(1, 4)})
    with pytest.raises(ValueError, match=r"inputs \['b'\].*has \['a'\]"):
        rows.join({"a": torch.zeros(1)}, {"b": torch.zeros(1)})
