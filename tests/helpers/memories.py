"""Rows that tell their own number, and what two memories of them must share."""

import io

import torch

from avalanche_ext.storage import MultiStrategyBuffer

ADMISSIONS = ["reservoir", "ring", "class_balanced"]


def inputs(numbers):
    """Nested inputs of three dtypes; each part tells the number of its row."""
    numbers = torch.as_tensor(numbers, dtype=torch.int64)
    image = torch.stack([numbers // 256, numbers % 256], 1).to(torch.uint8)
    return {
        "image": image.reshape(-1, 1, 2),
        "more": {"feature": torch.stack([numbers / 2, -numbers / 4], 1)},
    }


def numbers_of(x):
    """The numbers of the rows of ``inputs``, which must agree in every part."""
    assert x["image"].dtype == torch.uint8
    assert x["more"]["feature"].dtype == torch.float32
    image = x["image"].reshape(-1, 2).long()
    numbers = image[:, 0] * 256 + image[:, 1]
    feature = x["more"]["feature"]
    assert torch.equal(feature[:, 0], numbers / 2)
    assert torch.equal(feature[:, 1], -numbers / 4)
    return numbers.tolist()


def through_disk(state):
    """The state as a checkpoint brings it back: only tensors and plain containers."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def plain(n, first=0, dtype=torch.float32):
    """A batch whose x holds the number of the row, labels 0, 1, 2, 0, …"""
    numbers = torch.arange(first, first + n)
    return numbers.reshape(-1, 1).to(dtype), numbers % 3


def filled(n=6, max_size=10, seed=0, **options):
    buffer = MultiStrategyBuffer(max_size, seed=seed, **options)
    buffer.add(*plain(n))
    return buffer


def assert_same(one, other):
    """Everything public about two memories of `inputs` is equal, slot by slot."""
    assert (one.seen, one.max_size) == (other.seen, other.max_size)
    assert set(one.table.columns) == set(other.table.columns)
    for name in one.table.columns:
        a, b = one.table.column(name), other.table.column(name)
        if not isinstance(a, torch.Tensor):
            assert numbers_of(a) == numbers_of(b)
            continue
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    assert torch.equal(one.ages, other.ages)
    assert torch.equal(one.uses, other.uses)
    assert one.class_counts() == other.class_counts()
