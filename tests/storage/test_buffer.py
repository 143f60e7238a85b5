"""avalanche_ext/storage/buffer.py: memories by name."""

import re

import pytest
from memories import ADMISSIONS, filled

from avalanche_ext.storage import MultiStrategyBuffer


@pytest.mark.parametrize("max_size", [0, -5])
def test_size_must_be_positive(max_size):
    with pytest.raises(ValueError, match=re.escape(str(max_size))) as error:
        MultiStrategyBuffer(max_size)
    assert "\n" not in str(error.value)
    buffer = filled()
    with pytest.raises(ValueError, match=re.escape(str(max_size))):
        buffer.resize(None, max_size)
    assert (len(buffer), buffer.max_size) == (6, 10)


@pytest.mark.parametrize(
    ("option", "allowed"), [("admission", ADMISSIONS), ("sampling", ["uniform"])]
)
def test_unknown_names_list_those_allowed(option, allowed):
    with pytest.raises(ValueError, match="herring") as error:
        MultiStrategyBuffer(5, **{option: "herring"})
    assert all(name in str(error.value) for name in allowed)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("per_class", [0, -2])
def test_per_class_must_be_positive(per_class):
    with pytest.raises(ValueError, match=str(per_class)):
        MultiStrategyBuffer(5, admission="ring", per_class=per_class)


@pytest.mark.parametrize("admission", ["reservoir", "class_balanced"])
def test_per_class_is_for_the_ring(admission):
    with pytest.raises(ValueError, match="per_class"):
        MultiStrategyBuffer(5, admission=admission, per_class=2)


def test_state_of_another_admission_is_refused():
    state = filled(admission="ring").state_dict()
    buffer = filled(admission="reservoir")
    with pytest.raises(ValueError, match="ring") as error:
        buffer.load_state_dict(state)
    assert "reservoir" in str(error.value)


def test_the_state_has_the_names_that_it_had():
    """A state saved by an earlier version is read by this one."""
    had = {
        *("max_size", "admission", "per_class", "seen", "table", "policy"),
        *("admitting", "drawing", "ahead", "ahead_of", "settled", "before"),
    }
    memory = filled()
    state = {name: value for name, value in memory.state_dict().items() if name in had}
    assert set(state) == had
    loaded = MultiStrategyBuffer(10, seed=1)
    loaded.load_state_dict(state)
    assert loaded.sample(3)["x"].tolist() == memory.sample(3)["x"].tolist()
