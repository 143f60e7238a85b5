"""avalanche_ext/storage/sampling.py: samplings by name, as objects, and refused ones."""

import math

import pytest
import torch

from avalanche_ext.storage.coreset import Coreset
from avalanche_ext.storage.criteria import CRITERIA
from avalanche_ext.storage.priority import Priority
from avalanche_ext.storage.sampling import SAMPLINGS, make_sampling
from avalanche_ext.storage.softmax import Softmax
from avalanche_ext.storage.uniform import Uniform

NAMES = {
    "uniform": Uniform(),
    "mixed": Softmax("mixed"),
    "priority": Priority("loss"),
    "coreset": Coreset(),
}


def test_each_name_is_its_sampling():
    assert tuple(NAMES) == SAMPLINGS
    for name, sampling in NAMES.items():
        assert make_sampling(name, CRITERIA) == sampling
        assert sampling.name == ("loss" if name == "priority" else name)
    for name in (*CRITERIA, "a criterion of mine"):
        sampling = make_sampling(name, (*CRITERIA, "a criterion of mine"))
        assert sampling == Softmax(name)


def test_the_score_of_priority_can_be_another():
    made = make_sampling("priority", CRITERIA, priority="gradient")
    assert made == Priority("gradient")


def test_what_each_reads():
    reads = {name: make_sampling(name, CRITERIA).reads for name in SAMPLINGS}
    assert reads == {
        "uniform": "nothing",
        "mixed": "scores",
        "priority": "scores",
        "coreset": "features",
    }
    assert {make_sampling(name, CRITERIA).reads for name in CRITERIA} == {"scores"}


def test_only_priority_weighs():
    weighs = {n: make_sampling(n, CRITERIA).weighs for n in (*SAMPLINGS, *CRITERIA)}
    assert [name for name, does in weighs.items() if does] == ["priority"]
    assert not Priority(beta=0.0).weighs


def test_a_temperature_replaces_that_of_a_softmax():
    for name in ("mixed", *CRITERIA):
        assert make_sampling(name, CRITERIA, 0.7) == Softmax(name, 0.7)
        assert make_sampling(name, CRITERIA, None) == Softmax(name)
    own = Softmax("loss", 0.2, replacement=True)
    assert make_sampling(own, CRITERIA, 3.0) == Softmax("loss", 3.0, replacement=True)
    assert own.temperature == 0.2


@pytest.mark.parametrize(
    "sampling",
    [Uniform(), Softmax("loss", 0.3), Priority("gradient", alpha=1.0), Coreset()],
)
def test_an_object_stays_as_it_is(sampling):
    assert make_sampling(sampling, CRITERIA) is sampling


@pytest.mark.parametrize("sampling", ["uniform", "priority", "coreset", Coreset()])
def test_a_temperature_where_there_is_none(sampling):
    with pytest.raises(ValueError, match=r"temperature=0.5 belongs to .* leave it out"):
        make_sampling(sampling, CRITERIA, 0.5)


@pytest.mark.parametrize("temperature", [0, -1.0, math.inf, math.nan])
def test_a_temperature_that_cannot_be(temperature):
    for sampling in ("mixed", "loss", Softmax("loss")):
        with pytest.raises(ValueError, match=f"above 0, got {temperature}"):
            make_sampling(sampling, CRITERIA, temperature)


@pytest.mark.parametrize("name", ["herring", "", "Loss", "softmax", "interference"])
def test_unknown_names_list_those_allowed(name):
    with pytest.raises(ValueError, match=f"unknown sampling '{name}'") as error:
        make_sampling(name, ("loss", "mine"))
    assert "('uniform', 'mixed', 'priority', 'coreset', 'loss', 'mine')" in str(
        error.value
    )
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("what", [None, 3, ["loss"], Softmax, torch.zeros(2)])
def test_what_is_no_sampling(what):
    with pytest.raises(
        TypeError, match=r"unknown sampling .*: give one of \('uniform', .*'"
    ):
        make_sampling(what, CRITERIA)
