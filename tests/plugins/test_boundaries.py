"""avalanche_ext/plugins/boundaries.py: where experiences end."""

import pickle

import pytest
from avalanche.benchmarks.scenarios.online import split_online_stream

from avalanche_ext.plugins.boundaries import Boundaries


def ends(boundaries, stream):
    """For each experience what had ended before it, and what ended with it."""
    return [
        (boundaries.begins(experience), boundaries.ends(experience))
        for experience in stream
    ]


def online(stream, size=8, known=True, **more):
    return list(
        split_online_stream(stream, size, seed=0, access_task_boundaries=known, **more)
    )


@pytest.mark.parametrize("boundary", ["origin", "experience"])
def test_whole_experiences_end_themselves(class_stream, boundary):
    stream = list(class_stream(experiences=3).train_stream)
    assert ends(Boundaries(boundary), stream) == [(None, e) for e in stream]


@pytest.mark.parametrize("size", [8, 9, 40])
def test_an_origin_ends_with_its_last_part(class_stream, size):
    """Upstream marks the last part only where sizes do not divide evenly."""
    stream = list(class_stream(experiences=2).train_stream)
    parts = online(stream, size)
    number = len(parts) // 2
    expected = [(None, None)] * (number - 1)
    found = ends(Boundaries("origin"), parts)
    assert found == [
        *expected,
        (None, stream[0]),
        *expected,
        (None, stream[1]),
    ]
    assert ends(Boundaries("experience"), parts) == [(None, p) for p in parts]


def test_an_origin_that_is_left_ends_where_another_begins(class_stream):
    stream = list(class_stream(experiences=2).train_stream)
    first, second = online(stream[:1]), online(stream[1:])
    boundaries = Boundaries("origin")
    found = ends(boundaries, [*first[:2], second[0], stream[1]])
    assert found[2] == (stream[0], None)
    assert found[3] == (stream[1], stream[1])  # a whole one after a part
    # One that has ended does not end again.
    boundaries = Boundaries("origin")
    assert ends(boundaries, [*first, second[0]])[-1] == (None, None)


def test_hidden_origins_are_refused(class_stream):
    parts = online(class_stream(experiences=1).train_stream, known=False)
    with pytest.raises(ValueError, match=r"split it with access_task_boundaries=True"):
        Boundaries("origin").begins(parts[0])
    assert Boundaries("experience").begins(parts[0]) is None
    assert Boundaries(3).begins(parts[0]) is None


def test_iterations_are_counted_whatever_the_experience(class_stream):
    boundaries = Boundaries(3)
    found = []
    for experience in class_stream(experiences=2).train_stream:
        assert boundaries.begins(experience) is None
        found += [boundaries.step() for _ in range(4)]
        assert boundaries.ends(experience) is None
    assert found == [False, False, True] * 2 + [False, False]
    assert boundaries.position == 2
    assert not Boundaries("origin").step()


def test_experiences_are_not_pickled(class_stream):
    boundaries = Boundaries("origin")
    parts = online(class_stream(experiences=1).train_stream)
    ends(boundaries, parts[:2])
    assert len(pickle.dumps(boundaries)) < 500


@pytest.mark.parametrize("kept", [pickle.dumps, Boundaries.state_dict])
def test_a_state_between_two_parts(class_stream, kept):
    """The last part is known by how many there were before it was saved."""
    stream = list(class_stream(experiences=3).train_stream)
    parts = online(stream[1:2])
    for stop in range(1, len(parts)):
        boundaries = Boundaries("origin")
        assert ends(boundaries, parts[:stop]) == [(None, None)] * stop
        state = kept(boundaries)
        if isinstance(state, bytes):
            loaded = pickle.loads(state)
        else:
            loaded = Boundaries("origin")
            loaded.load_state_dict(state)
        found = ends(loaded, [*online(stream[1:2])[stop:], *online(stream[2:])])
        assert [e for e in found if e != (None, None)] == [
            (None, stream[1]),
            (None, stream[2]),
        ]


@pytest.mark.parametrize("kept", [pickle.dumps, Boundaries.state_dict])
def test_a_state_between_two_parts_and_another_experience(class_stream, kept):
    """Whose end it was cannot be taken importances of; that is told."""
    stream = list(class_stream(experiences=2).train_stream)
    boundaries = Boundaries("origin")
    ends(boundaries, online(stream[:1])[:1])
    state = kept(boundaries)
    loaded = pickle.loads(state) if isinstance(state, bytes) else Boundaries("origin")
    if not isinstance(state, bytes):
        loaded.load_state_dict(state)
    with pytest.warns(UserWarning, match="middle of experience 0, .* with another, 1"):
        found = ends(loaded, online(stream[1:]))
    assert [e for e in found if e != (None, None)] == [(None, stream[1])]
