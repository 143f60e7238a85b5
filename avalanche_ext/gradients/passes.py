"""Per-sample gradients of a batch, pass by pass and parameter by parameter."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from avalanche_ext.gradients.capture import layers_of, watching
from avalanche_ext.gradients.factors import Direct, Factor
from avalanche_ext.gradients.fallback import row_gradients
from avalanche_ext.gradients.inspection import Inspection, inspect_rows, last_names
from avalanche_ext.gradients.losses import Criterion, per_sample_losses
from avalanche_ext.gradients.problem import Problem
from avalanche_ext.gradients.rows import apply, count_rows, take
from avalanche_ext.gradients.sources import Source, Survey, survey

# Of the layers' inputs and outputs. On a CPU measured: a reduced ResNet-18 is fastest
# with 16 to 24 rows a pass, since patches and gradients then stay in its caches.
_PASS_BYTES = {"cpu": 1 << 26}
_DEVICE_PASS_BYTES = 1 << 29


@dataclass(frozen=True)
class Part:
    """The gradients of some rows for one parameter.

    :param rows: which rows of the pass: a slice, or an index without duplicates.
    """

    name: str
    rows: slice | Tensor
    factor: Factor


@dataclass(frozen=True)
class Labelled:
    """A pass over some rows with one set of labels.

    :param rows: which rows of the batch.
    :param losses: of these rows, shape ``(m,)``.
    :param weights: of these labels, shape ``(m,)``; ``None`` for 1.
    :param parts: to be read before the next pass is asked for.
    """

    rows: slice
    losses: Tensor
    weights: Tensor | None
    parts: Iterator[Part]


# The labels of some rows, and their weights, from the output for these rows.
Labels = Callable[[Any, slice], list[tuple[Any, Tensor | None]]]


def given(y: Any) -> Labels:
    """The labels ``y`` of all rows."""
    return lambda output, rows: [(take(y, rows), None)]


def rows_a_pass(problem: Problem, inspection: Inspection, asked: int | None) -> int:
    """Rows of one pass: as many as keep the layers' inputs and outputs below 64 MiB on
    a CPU, 512 MiB on other devices; one where rows depend on each other.

    :param asked: by the user, in place of that.
    :raises ValueError: if it is less than 1.
    """
    if asked is not None and asked < 1:
        raise ValueError(f"rows_per_pass={asked}; it must be at least 1")
    if not inspection.independent:
        return 1
    limit = _PASS_BYTES.get(problem.device.type, _DEVICE_PASS_BYTES)
    return asked or max(1, limit // inspection.row_bytes)


def passes(
    problem: Problem,
    criterion: Criterion,
    x: Any,
    labels: Labels,
    task: Tensor | None = None,
    inspection: Inspection | None = None,
    rows_per_pass: int | None = None,
) -> Iterator[Labelled]:
    """Gradients of each row of ``x``, to be read in the state of
    :func:`~avalanche_ext.gradients.problem.differentiable`."""
    rows = count_rows(x)
    if not rows:
        return
    if inspection is None or not inspection.fits(problem):
        inspection = inspect_rows(problem, x, task)
    step = rows_a_pass(problem, inspection, rows_per_pass)
    for start in range(0, rows, step):
        chunk = _Chunk(
            problem, criterion, x, task, slice(start, min(start + step, rows))
        )
        found = None
        cases = labels(apply(chunk.output, Tensor.detach), chunk.rows)
        for number, (target, weights) in enumerate(cases):
            target = problem.place(target)
            losses = per_sample_losses(criterion, chunk.output, target)
            if found is None:
                found = survey(problem, chunk.layers, losses.grad_fn, chunk.size)
                inspection = chunk.inspected(found.sources, inspection)
            more = number + 1 < len(cases)
            parts = chunk.parts(found, inspection, losses, target, more)
            yield Labelled(chunk.rows, losses.detach(), weights, parts)


class _Chunk:
    """Some rows, after their forward pass."""

    def __init__(
        self,
        problem: Problem,
        criterion: Criterion,
        x: Any,
        task: Tensor | None,
        rows: slice,
    ) -> None:
        self.problem = problem
        self.criterion = criterion
        self.rows = rows
        self.size = rows.stop - rows.start
        self.x, self.task = problem.place(take((x, task), rows))
        self.layers = layers_of(problem.model, problem.parameters)
        with watching(self.layers) as self.order:
            self.output = problem.output(self.x, self.task)

    def inspected(self, sources: list[Source], inspection: Inspection) -> Inspection:
        """The inspection, with layers that had not been met, such as a further head."""
        for source in sources:
            if inspection.unmet(source.names):
                rows = source.origin
                rows = torch.arange(self.size) if rows is None else rows.cpu()
                found = inspect_rows(self.problem, self.x, self.task, rows[:3])
                inspection = inspection.merged(found)
        return inspection

    def parts(
        self,
        found: Survey,
        inspection: Inspection,
        losses: Tensor,
        target: Any,
        more: bool,
    ) -> Iterator[Part]:
        """The gradients of all parameters that were used.

        :param more: whether another backward pass follows.
        """
        wanted = set(self.problem.parameters)
        if self.problem.last:
            wanted &= last_names(self.order, self.size)
        rest = wanted & set(found.refused)
        sources = []
        for source in found.sources:
            names = wanted & set(source.names)
            rest |= names - inspection.formulas
            if names & inspection.formulas:
                sources.append(source)
        wanted -= rest
        edges = [source.edge for source in sources]
        deltas = (
            torch.autograd.grad(
                losses.sum(), edges, retain_graph=more, allow_unused=True
            )
            if edges
            else ()
        )
        for source, delta in zip(sources, deltas, strict=True):
            if delta is None:  # the output's own history was rewritten
                rest |= wanted & set(source.names)
            elif len(delta):
                rows = slice(None) if source.origin is None else source.origin
                for name, factor in source.factors(delta, wanted):
                    yield Part(name, rows, factor)
        if rest:
            yield from self._each_row(sorted(rest), inspection, target)

    def _each_row(
        self, names: list[str], inspection: Inspection, target: Any
    ) -> Iterator[Part]:
        way = inspection.way or "loop"
        batch = self.x, target, self.task
        for rows, found in row_gradients(
            self.problem, self.criterion, *batch, names, way
        ):
            for name, gradients in found.items():
                yield Part(name, rows, Direct(gradients))
