"""Tests of avalanche_ext/storage/admission.py: policies by name."""

import pytest

from avalanche_ext.storage.admission import ADMISSIONS, make_admission
from avalanche_ext.storage.by_class import ClassBalanced, Ring
from avalanche_ext.storage.herding import Herding
from avalanche_ext.storage.reservoir import Reservoir
from avalanche_ext.storage.score_admission import Score


def test_each_name_is_its_policy():
    kinds = {name: type(make_admission(name)) for name in ADMISSIONS}
    assert kinds == {
        "reservoir": Reservoir,
        "ring": Ring,
        "class_balanced": ClassBalanced,
        "herding": Herding,
        "score": Score,
    }
    ring = make_admission("ring", 3)
    assert isinstance(ring, Ring)
    assert ring.per_class == 3


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"'rings'.*'reservoir', 'ring'"):
        make_admission("rings")
    with pytest.raises(ValueError, match="at least 1, got 0"):
        make_admission("ring", 0)
    for name in ("reservoir", "class_balanced"):
        with pytest.raises(ValueError, match=f"per_class=2.*'ring', got '{name}'"):
            make_admission(name, 2)
    for name in ADMISSIONS:
        if name != "score":
            with pytest.raises(ValueError, match=f"'none'.*'score', got '{name}': le"):
                make_admission(name, balance="none")
        with pytest.raises(ValueError, match="unknown balance 'even': choose one of"):
            make_admission(name, balance="even")
