"""Work in other processes, of which any may fail or die without the others."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

from experiments.errors import UserError

T = TypeVar("T")
Work = Callable[[Any], Any]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

PATIENCE = 10
"""Seconds that a process has to end by itself."""


@dataclass(frozen=True)
class Done(Generic[T]):
    """A task that ended.

    :param warnings: those that it gave, each once.
    """

    task: T
    value: Any
    seconds: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Failed(Generic[T]):
    """A task that did not end, and why, in one line."""

    task: T
    error: str


def work_through(
    make_work: Callable[[], Work], tasks: deque[T], processes: int
) -> Generator[Done[T] | Failed[T], None, None]:
    """Do tasks in several processes, each with one thread, in the order they end.

    Processes start as they are needed, and each does one task after the other, so that
    imports cost their seconds once. More tasks may be appended while these are done.

    :param make_work: called once in each process; it and the tasks are pickled.
    :param tasks: emptied from the left.
    """
    workers: list[_Worker[T]] = []
    try:
        while True:
            while tasks:
                free = next((w for w in workers if w.task is None), None)
                if free is None:
                    if len(workers) == processes:
                        break
                    free = _Worker(make_work)
                    workers.append(free)
                free.give(tasks.popleft())
            busy = {w.pipe: w for w in workers if w.task is not None}
            if not busy:
                return
            for pipe in connection.wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                outcome = worker.take()
                if not worker.alive:
                    workers.remove(worker)
                yield outcome
    finally:
        for worker in workers:
            worker.end()


class _Worker(Generic[T]):
    """A process and what it does."""

    def __init__(self, make_work: Callable[[], Work]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(
            target=_serve, args=(theirs, make_work), daemon=True
        )
        self._process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        self.task: T | None = None
        self.alive = True

    def give(self, task: T) -> None:
        self.task = task
        with contextlib.suppress(OSError):  # it is dead, which taking will tell
            self.pipe.send(task)

    def take(self) -> Done[T] | Failed[T]:
        task, self.task = self.task, None
        assert task is not None
        try:
            ended, content = self.pipe.recv()
        except (EOFError, OSError):
            self.alive = False
            self._process.join()
            self.pipe.close()
            code = self._process.exitcode
            return Failed(task, f"the process ended with status {code}")
        return Done(task, *content) if ended else Failed(task, content)

    def end(self) -> None:
        idle = self.task is None
        self.pipe.close()  # which ends it, between tasks
        if idle:
            self._process.join(PATIENCE)
        self._process.terminate()
        self._process.join(PATIENCE)
        self._process.kill()
        self._process.join()


def _serve(pipe: Any, make_work: Callable[[], Work]) -> None:
    """The process: one task after the other until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # with all that is due then
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(dict.fromkeys(THREADS, "1"))
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    work: Work | None = None
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        told: dict[str, None] = {}
        answer: tuple[bool, Any]
        try:
            with warnings.catch_warnings():
                # Not record=True: what is caught inside would not come to it.
                warnings.showwarning = _keeper(told)
                if work is None:
                    work = make_work()
                start = time.perf_counter()
                value = work(task)
            answer = True, (value, time.perf_counter() - start, tuple(told))
        except UserError as error:
            answer = False, str(error)
        except Exception as error:
            answer = False, _place_of(error)
        pipe.send(answer)


def _end_with_parent() -> None:
    """A parent that is killed closes the pipe, which is read between tasks only."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _keeper(told: dict[str, None]) -> Callable[..., None]:
    def keep(message: Any, category: Any, *place: Any, **more: Any) -> None:
        if not issubclass(category, DeprecationWarning):
            told[" ".join(str(message).split())] = None

    return keep


def _place_of(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    name = os.path.basename(frame.filename)
    return f"{type(error).__name__}: {text} ({name}, line {frame.lineno})"
