"""avalanche_ext/settings.py: what parts were made with, in plain words."""

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from avalanche_ext import AgeCriterion, Priority
from avalanche_ext.settings import TellsSettings, differences, settings_of


class Part(TellsSettings):
    def __init__(self, size, names=(), *, seed=None):
        self._settings = settings_of(locals(), but=("seed",))
        self.size = 2 * size


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        *[(value, value) for value in (None, True, 3, 0.5, "word")],
        *((np.int64(3), 3), (np.float32(0.5), 0.5)),
        *(((1, 2), [1, 2]), ({2, 1}, [1, 2]), ({"a": (1,)}, {"a": [1]}), ([], [])),
        *((AgeCriterion(5), "AgeCriterion(tau=5, name='age')"), (max, "max")),
        (
            Priority(),
            "Priority(name='loss', alpha=0.6, beta=0.4, eps=1e-06, replacement=False)",
        ),
        *((nn.MSELoss(), "MSELoss"), (torch.zeros(3), "Tensor"), (Part, "Part")),
        *((partial(max, 1), "partial"), (object(), "object")),
    ],
)
def test_values_in_plain_words(value, plain):
    found = settings_of({"value": value})["value"]
    assert found == plain
    assert type(found) is type(plain)
    assert pickle.loads(pickle.dumps(found)) == plain


def test_a_part_tells_what_it_was_made_with():
    part = Part(3, ("a",), seed=5)
    part.size = 100
    assert part.settings == {"size": 3, "names": ["a"]}
    part.settings["size"] = 4
    assert part.settings["size"] == 3


def test_settings_that_one_version_does_not_know_are_no_difference():
    found = differences({"a": 1, "old": 2, "b": 3}, {"b": 4, "a": 1, "new": 5})
    assert list(found) == [("b", 3, 4)]
    assert list(differences({"a": 1}, {"a": 1})) == []
