"""Interleaved rounds, medians, and ratios of what was timed in the same round."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

Observe = Callable[[], float]
"""Does the work of one round; returns what it cost, in the unit of its case."""
Key = tuple[str, str]
"""A row of a case and one of its contenders."""


class Spread(NamedTuple):
    """A median between its quartiles."""

    median: float
    low: float
    high: float


@dataclass
class Measured:
    """What a contender cost in each round, or why that is not known."""

    values: list[float] = field(default_factory=list)
    error: str | None = None

    @property
    def spread(self) -> Spread | None:
        """Over the rounds; None after an error."""
        return None if self.error is not None else spread(self.values)


def stopwatch(
    prepare: Callable[[], Callable[[], int]],
    per_second: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Observe:
    """Time a piece of work without its preparation.

    :param prepare: makes the work of one round; its time does not count.
        The work returns how many units it did.
    :param per_second: 1e6 gives microseconds a unit, 1e3 milliseconds.
    :param clock: seconds.
    """

    def observe() -> float:
        work = prepare()
        gc.collect()  # one contender does not pay for the garbage of another
        start = clock()
        units = work()
        return (clock() - start) / units * per_second

    return observe


def interleave(
    makers: Mapping[Key, Callable[[], Observe]], repeats: int
) -> dict[Key, Measured]:
    """One observation of every contender a round, ``repeats + 1`` rounds.

    The first round is discarded. Every second one runs backwards, so that nobody
    always follows the same neighbour. A contender that fails is left out from there
    on, and the others go on.

    :param makers: make a contender's observation, once, before the first round.
    """
    measured = {key: Measured() for key in makers}
    observers: dict[Key, Observe] = {}

    def prepare(key: Key) -> None:
        observers[key] = makers[key]()

    def observe(key: Key) -> None:
        measured[key].values.append(observers[key]())

    for key in makers:
        _guarded(measured[key], prepare, key)
    for number in range(repeats + 1):
        for key in list(makers)[:: 1 if number % 2 else -1]:
            if measured[key].error is None:
                _guarded(measured[key], observe, key)
        if number == 0:
            for one in measured.values():
                one.values.clear()
    return measured


def _guarded(measured: Measured, step: Callable[[Key], None], key: Key) -> None:
    try:
        step(key)
    except Exception as error:
        text = " ".join(str(error).split())
        measured.error = f"{type(error).__name__}: {text}".rstrip(": ")


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratio(above: Measured | None, below: Measured | None) -> Spread | None:
    """The ratio in each round: what disturbs a whole round leaves it alone.

    :return: None where one of the two was not measured, or cost nothing.
    """
    if above is None or below is None or above.error or below.error:
        return None
    if not all(below.values):
        return None
    pairs = zip(above.values, below.values, strict=True)
    return spread([a / b for a, b in pairs])
