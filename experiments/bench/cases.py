"""The cases by name. Their modules, and with them Avalanche, are loaded when run."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from experiments.bench.workload import Row, Workload
from experiments.errors import unknown


@dataclass(frozen=True)
class Case:
    """What is timed under one name.

    :param summary: one line for people.
    :param unit: of every number in its rows; smaller is better.
    :param rows: its lines, each with its contenders.
    :param most: rounds at most, where one takes long; ``None`` for no limit.
    """

    name: str
    summary: str
    unit: str
    rows: Callable[[Workload], list[Row]]
    most: int | None = None


def _naive_iteration(work: Workload) -> list[Row]:
    from experiments.bench import iteration

    return iteration.rows(work, replay=False)


def _replay_iteration(work: Workload) -> list[Row]:
    from experiments.bench import iteration

    return iteration.rows(work, replay=True)


def _evaluation(work: Workload) -> list[Row]:
    from experiments.bench import evaluation

    return evaluation.rows(work)


def _online_replay(work: Workload) -> list[Row]:
    from experiments.bench import online

    return online.rows(work)


def _whole_run(work: Workload) -> list[Row]:
    from experiments.bench import whole_run

    return whole_run.split_rows(work)


def _rotated_run(work: Workload) -> list[Row]:
    from experiments.bench import whole_run

    return whole_run.rotated_rows(work)


def _memory_row(work: Workload) -> list[Row]:
    from experiments.bench import memory_row

    return memory_row.rows(work)


def _insertion(work: Workload) -> list[Row]:
    from experiments.bench import insertion

    return insertion.rows(work)


def _draw(work: Workload) -> list[Row]:
    from experiments.bench import draw

    return draw.rows(work)


def _multi_strategy_iteration(work: Workload) -> list[Row]:
    from experiments.bench import scored_memory

    return scored_memory.iteration_rows(work)


def _scored_draw(work: Workload) -> list[Row]:
    from experiments.bench import scored_memory

    return scored_memory.draw_rows(work)


def _regulariser_iteration(work: Workload) -> list[Row]:
    from experiments.bench import regularisers

    return regularisers.rows(work)


def _fisher(work: Workload) -> list[Row]:
    from experiments.bench import fisher

    return fisher.rows(work)


def _gradient_norms(work: Workload) -> list[Row]:
    from experiments.bench import scoring

    return scoring.norm_rows(work)


def _mc_dropout(work: Workload) -> list[Row]:
    from experiments.bench import scoring

    return scoring.dropout_rows(work)


def _k_center(work: Workload) -> list[Row]:
    from experiments.bench import covering

    return covering.rows(work)


CASES = {
    case.name: case
    for case in (
        Case(
            "naive-iteration",
            "a training iteration of plain training, data resident",
            "µs per iteration",
            _naive_iteration,
        ),
        Case(
            "replay-iteration",
            "a training iteration with as many rows of a reservoir of 500",
            "µs per iteration",
            _replay_iteration,
        ),
        Case(
            "evaluation",
            "the whole test stream of five experiences, with the metrics of a run",
            "ms per evaluation",
            _evaluation,
        ),
        Case(
            "online-replay",
            "a step of an online stream by 10 rows, replaying 10 of a memory of 500",
            "ms per step",
            _online_replay,
        ),
        Case(
            "whole-run",
            "Split MNIST, one epoch, replaying from a memory of 500, with evaluations",
            "s per run",
            _whole_run,
        ),
        Case(
            "rotated-run",
            "rotated MNIST, one epoch, replaying from a memory of 500, with evaluations",
            "s per run",
            _rotated_run,
            most=5,
        ),
        Case(
            "memory-row",
            "what a stored row of 3,072 bytes takes, all columns and counts together",
            "bytes per row",
            _memory_row,
        ),
        Case(
            "insertion",
            "a batch of 10 offered to a full memory that has seen twice its capacity",
            "µs per batch",
            _insertion,
        ),
        Case(
            "draw",
            "10 rows drawn from a full memory",
            "µs per draw",
            _draw,
        ),
        Case(
            "multi-strategy-iteration",
            "a training iteration with rows that scores choose from a memory of 500",
            "µs per iteration",
            _multi_strategy_iteration,
        ),
        Case(
            "regulariser-iteration",
            "a training iteration under an importance penalty, data resident",
            "µs per iteration",
            _regulariser_iteration,
        ),
        Case(
            "scored-draw",
            "10 rows drawn without replacement by their scores",
            "µs per draw",
            _scored_draw,
        ),
        Case(
            "gradient-norms",
            "the loss and the gradient norm of each row",
            "ms per batch",
            _gradient_norms,
        ),
        Case(
            "fisher",
            "the diagonal Fisher information, mean of squared gradients of single rows",
            "ms per batch",
            _fisher,
        ),
        Case(
            "mc-dropout",
            "the uncertainty of each row under dropout",
            "ms per batch",
            _mc_dropout,
        ),
        Case(
            "k-center",
            "rows that cover all others in feature space",
            "s per choice",
            _k_center,
            most=5,
        ),
    )
}


def choose(names: Iterable[str]) -> list[Case]:
    """The cases of these names, each once; all of them for no name.

    :raises UserError: for a name that does not exist.
    """
    wanted = list(dict.fromkeys(names)) or list(CASES)
    for name in wanted:
        if name not in CASES:
            raise unknown("case", name, CASES)
    return [CASES[name] for name in wanted]
