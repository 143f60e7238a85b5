"""experiments/origin.py: versions, the state of the checkout, and what differs."""

import subprocess

import pytest

from experiments import origin


def made(commit="a" * 40, dirty=False, **versions):
    known = {"torch": "2.0", "avalanche-lib": "0.6", "numpy": "2.4", "python": "3"}
    return {
        "git": {"commit": commit, "dirty": dirty},
        "versions": {**known, **versions},
    }


def test_what_runs_now_is_described():
    now = origin.now()
    assert set(now) == {"versions", "git"}
    assert now["versions"]["torch"]
    assert origin.same(now, {**now, "more": 1}) == (not now["git"]["dirty"])


@pytest.mark.parametrize(
    "other",
    [
        made(commit="b" * 40),
        made(torch="2.1"),
        made(numpy="1"),
        made(**{"avalanche-lib": "9"}),
        made(dirty=True),
        {},
        {"git": None, "versions": None},
    ],
)
def test_another_origin_is_not_the_same(other):
    assert not origin.same(other, made())
    assert not origin.same(made(), other)


def test_what_changes_no_figure_may_differ():
    assert origin.same(made(), made(python="2"))


def test_changes_of_the_same_commit_may_be_others():
    assert not origin.same(made(dirty=True), made(dirty=True))


def test_an_origin_in_words():
    assert origin.told(made(dirty=True)) == (
        "commit aaaaaaa with changes, torch 2.0, avalanche-lib 0.6, numpy 2.4"
    )
    assert origin.told({}) == (
        "commit unknown, torch None, avalanche-lib None, numpy None"
    )


def test_git_state(tmp_path, monkeypatch):
    package = tmp_path / "experiments"
    package.mkdir()
    monkeypatch.setattr(origin, "__file__", str(package / "origin.py"))
    assert origin.git_state() == {"commit": None, "dirty": None}

    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True)

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "x")
    state = origin.git_state()
    assert len(state["commit"]) == 40
    assert state["dirty"] is False
    (package / "new.py").write_text("")
    assert origin.git_state()["dirty"] is True
    # A checkout around this one says nothing about this one.
    inner = package / "experiments"
    inner.mkdir()
    monkeypatch.setattr(origin, "__file__", str(inner / "origin.py"))
    assert origin.git_state() == {"commit": None, "dirty": None}
