"""avalanche_ext/storage/classes.py against a Counter."""

import re
from collections import Counter

import pytest
import torch

from avalanche_ext.storage.classes import class_counts, class_of_each


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
@pytest.mark.parametrize("with_task", [False, True])
def test_classes_of_rows(with_task, dtype):
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, 6, (200,), generator=generator).to(dtype)
    task = torch.randint(0, 3, (200,), generator=generator) if with_task else None
    expected = [int(label) for label in y]
    if task is not None:
        expected = [(int(t), int(label)) for t, label in zip(task, y, strict=True)]
    assert list(class_of_each(y, task, "a test")) == expected
    counts = class_counts(y, task, "a test")
    assert counts == Counter(expected)
    assert list(counts) == sorted(counts)


@pytest.mark.parametrize("read", [class_of_each, class_counts])
@pytest.mark.parametrize("wrong", [torch.eye(4).long(), torch.rand(4)])
def test_what_is_no_class_label_is_named(read, wrong):
    shape = re.escape(str(tuple(wrong.shape)))
    right = torch.arange(4)
    for name, columns in (("y", (wrong, None)), ("task", (right, wrong))):
        with pytest.raises(ValueError, match=f"a test .*'{name}'.*{shape}") as error:
            read(*columns, "a test")
        assert "\n" not in str(error.value)
