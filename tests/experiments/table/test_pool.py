"""experiments/table/pool.py: other processes, and what becomes of their failures."""

import importlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import pytest

from experiments.table.pool import Done, Failed, work_through


@pytest.fixture
def work(monkeypatch):
    """The class Work, by a name under which a new process finds it too."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("pool_work").Work


def test_each_task_ends_one_way_or_the_other(work, capfd):
    tasks = deque(
        [("do", 1), ("refuse", "no"), ("break", "it"), ("die", 3), ("warn", "mind")]
    )
    outcomes = list(work_through(work, tasks, 1))
    assert [outcome.task[0] for outcome in outcomes] == (
        ["do", "refuse", "break", "die", "warn"]
    )
    done, refused, broken, died, warned = outcomes
    assert isinstance(done, Done)
    assert isinstance(warned, Done)
    assert done.value[0] == 1
    assert done.value[3] == "1"  # thread
    assert refused == Failed(("refuse", "no"), "no")
    assert broken.error.startswith("RuntimeError: two lines of it (pool_work.py, line ")
    assert died.error == "the process ended with status 3"
    # The first process did four tasks; another one took its place.
    assert (done.value[1], warned.value[1]) == (1, 1)
    assert done.value[2] != warned.value[2]
    assert warned.warnings == ("mind",)
    assert capfd.readouterr() == ("", "")


def test_several_processes_share_the_tasks_and_more_may_come(work):
    tasks = deque([("sleep", 0.3)] * 2)
    found = []
    for outcome in work_through(work, tasks, 2):
        if not found:
            tasks.append(("do", 7))
        found.append(outcome.value)
    assert sorted(value[0] for value in found) == [0.3, 0.3, 7]
    assert len({value[2] for value in found}) == 2
    assert not tasks


def test_no_task_starts_no_process():
    assert list(work_through(None, deque(), 2)) == []


def test_what_is_left_behind_ends(work):
    outcomes = work_through(work, deque([("do", 1), ("sleep", 600)]), 2)
    ended = next(outcomes)
    start = time.perf_counter()
    outcomes.close()
    assert time.perf_counter() - start < 30
    with pytest.raises(ProcessLookupError):
        os.kill(ended.value[2], 0)


def test_a_process_does_not_outlive_the_one_that_started_it(work, tmp_path):
    script, told = tmp_path / "parent.py", tmp_path / "told"
    script.write_text(
        "from collections import deque\n"
        "from experiments.table.pool import work_through\n"
        "from pool_work import Work\n"
        "if __name__ == '__main__':\n"
        f"    list(work_through(Work, deque([('stay', {str(told)!r})]), 1))\n"
    )
    here = Path(__file__)
    paths = os.pathsep.join([str(here.parents[3]), str(here.parent)])
    environment = {**os.environ, "PYTHONPATH": paths}
    with subprocess.Popen([sys.executable, str(script)], env=environment) as parent:
        assert within(60, told.exists)
        parent.kill()
    process = int(told.read_text())
    ended = within(30, lambda: not runs(process))
    if not ended:
        os.kill(process, signal.SIGKILL)
    assert ended


def within(seconds, condition):
    last = time.perf_counter() + seconds
    while not condition():
        if time.perf_counter() > last:
            return False
        time.sleep(0.05)
    return True


def runs(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # One that has ended is there until its parent, or init, asks about it.
    status = Path(f"/proc/{process}/status")
    return not status.exists() or "State:\tZ" not in status.read_text()
