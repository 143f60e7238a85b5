"""Gradients of single rows from a training step's own forward and backward pass."""

from collections.abc import Iterator
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from avalanche_ext.gradients.capture import Layer, layers_of, watch
from avalanche_ext.gradients.factors import Factor
from avalanche_ext.gradients.inspection import Inspection, inspect_rows
from avalanche_ext.gradients.problem import (
    Parameters,
    Problem,
    differentiable,
    problem_of,
)
from avalanche_ext.gradients.rows import count_rows, linear
from avalanche_ext.gradients.sources import Source, survey


class GradientRecorder:
    """Notes what per-sample gradients are made of while a model is trained.

    Between :meth:`start` and :meth:`stop`, or in a ``with`` block, run one forward and
    one backward pass as always. Of several, the last of each counts. No other pass over
    the rows is needed, except that the model is inspected when it is first met and
    whenever it grows.

    The gradients are those of the loss that was differentiated. Where it is
    ``Σ_i c_i L_i`` plus terms that do not depend on the model's output, such as a
    penalty on its weights, row i's gradient is ``c_i ∇L_i``, from which the ``c_i`` are
    divided out. The model is in whatever mode it is trained in: with dropout, ``L_i``
    is the loss under the row's own mask; **with batch norm on batch statistics a row's
    gradient is not defined**, since each loss depends on all rows, and what is returned
    is row i's share of the batch's gradient, ``Σ_j c_j ∂L_j/∂θ`` through the places of
    row i in each layer, divided by ``c_i``. These shares still sum to the gradient of
    the batch.

    Only parameters with a formula can be recorded (:attr:`missing` names the others).
    Losses need no recorder: :func:`~avalanche_ext.gradients.per_sample_losses` of the
    step's own output.

    :param model: that is trained.
    :param parameters: ``"all"`` or names.
    :param inspection: of the model, which else is made at the first forward pass.

    >>> model = nn.Linear(2, 1, bias=False)
    >>> _ = nn.init.zeros_(model.weight)
    >>> x, y = torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.ones(2, 1)
    >>> recorder = GradientRecorder(model)
    >>> with recorder:
    ...     nn.functional.mse_loss(model(x), y).backward()
    >>> recorder.gradient_norms()
    tensor([10.,  2.])
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Parameters = "all",
        inspection: Inspection | None = None,
    ) -> None:
        if parameters == "last":
            raise ValueError("parameters='last' is not recorded; give their names")
        self.model = model
        self.parameters = parameters
        self.inspection = inspection
        self._clear()

    _problem: Problem
    _forward_hooks: list[RemovableHandle]
    _backward_hooks: list[RemovableHandle]
    _layers: list[Layer]
    _order: list[Layer]
    _rows: int | None
    _met: list[tuple[Source, list[Tensor]]]
    _missing: dict[str, str]
    _inspecting: bool

    def start(self) -> None:
        """Watch the model's next forward and backward pass."""
        self.stop()
        self._clear()
        self._problem = problem_of(self.model, _call, self.parameters)
        self._layers = layers_of(self.model, self._problem.parameters)
        before = self.model.register_forward_pre_hook(self._before, prepend=True)
        self._forward_hooks.append(before)
        for layer in self._layers:
            self._forward_hooks.append(watch(layer, self._order))
        after = self.model.register_forward_hook(self._after, with_kwargs=True)
        self._forward_hooks.append(after)

    def stop(self) -> None:
        """Take all hooks away; the record stays until the next start."""
        for handle in (*self._forward_hooks, *self._backward_hooks):
            handle.remove()
        self._forward_hooks, self._backward_hooks = [], []
        self._layers, self._order = [], []

    def __enter__(self) -> "GradientRecorder":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def missing(self) -> dict[str, str]:
        """Parameters of the recorded pass that have no formula, and why."""
        return dict(self._missing)

    def gradient_norms(self, coefficients: Tensor | None = None) -> Tensor:
        """``‖∇L_i‖₂`` of each row of the recorded pass, shape ``(n,)``.

        :param coefficients: ``c_i`` of the rows' losses in the loss that was
            differentiated, shape ``(n,)``, loss scaling included; ``1/n`` each by
            default. A row with 0 has no gradient: its norm is NaN.
        :raises RuntimeError: if nothing was recorded, or a parameter is missing.
        """
        scale = self._coefficients(coefficients)
        squares = torch.zeros_like(scale)
        for _, rows, factor in self._factors():
            squares[rows] += factor.square_norms()
        norms: Tensor = squares.sqrt_() / scale.abs()
        return norms

    def squared_gradients(
        self, coefficients: Tensor | None = None, weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        """``Σ_i w_i (∇L_i)² / Σ_i w_i`` of the recorded rows, by parameter.

        :param coefficients: see :meth:`gradient_norms`.
        :param weights: ``w_i``, shape ``(n,)``; 1 each by default.
        :raises RuntimeError: as :meth:`gradient_norms`.
        """
        scale = self._coefficients(coefficients)
        scale = (torch.ones_like(scale) if weights is None else weights) / scale**2
        total = len(scale) if weights is None else weights.sum()
        sums = {n: torch.zeros_like(p) for n, p in self._problem.parameters.items()}
        for name, rows, factor in self._factors():
            sums[name] += factor.square_sum(scale[rows])
        return {name: (found / total).detach() for name, found in sums.items()}

    def _clear(self) -> None:
        self._forward_hooks, self._backward_hooks = [], []
        self._layers, self._order, self._met = [], [], []
        self._rows, self._missing, self._inspecting = None, {}, False

    def __getstate__(self) -> dict[str, Any]:
        """Without a record, which holds parts of autograd's graph."""
        kept = ("model", "parameters", "inspection")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._clear()

    def _before(self, model: nn.Module, args: Any) -> None:
        if torch.is_grad_enabled() and not self._inspecting:
            for layer in self._layers:
                layer.calls.clear()

    def _after(self, model: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """Find where gradients will come in, and watch these places."""
        if self._inspecting or not torch.is_grad_enabled():
            return
        for handle in self._backward_hooks:
            handle.remove()
        self._rows = count_rows(output)
        found = survey(self._problem, self._layers, linear(output).grad_fn, self._rows)
        self._inspect(found.sources, (args, kwargs))
        assert self.inspection is not None
        self._missing, self._met, self._backward_hooks = dict(found.refused), [], []
        for source in found.sources:
            for name in source.names:
                if name not in self.inspection.formulas:
                    self._missing[name] = self.inspection.refused.get(name, "not met")
            delta: list[Tensor] = []
            self._met.append((source, delta))
            self._backward_hooks.append(_keep_gradient(source, delta))

    def _inspect(self, sources: list[Source], batch: Any) -> None:
        if self.inspection is None or not self.inspection.fits(self._problem):
            self.inspection = self._inspect_rows(batch, None)
        for source in sources:
            if self.inspection.unmet(source.names):
                rows = source.origin
                found = self._inspect_rows(batch, None if rows is None else rows[:3])
                self.inspection = self.inspection.merged(found)

    def _inspect_rows(self, batch: Any, rows: Tensor | None) -> Inspection:
        calls = [list(layer.calls) for layer in self._layers]
        self._inspecting = True
        try:
            with differentiable(self._problem):
                some = None if rows is None else rows.cpu()
                return inspect_rows(self._problem, batch, None, some)
        finally:
            self._inspecting = False
            for layer, own in zip(self._layers, calls, strict=True):
                layer.calls[:] = own

    def _coefficients(self, coefficients: Tensor | None) -> Tensor:
        if self._rows is None:
            raise RuntimeError(
                "nothing was recorded: run the model's forward and backward pass between "
                "start() and stop(), with gradients on"
            )
        if self._missing:
            name, why = next(iter(self._missing.items()))
            raise RuntimeError(
                f"{len(self._missing)} parameters have no formula ({name}: {why}); use "
                "gradient_norms or diagonal_fisher, which take them row by row"
            )
        if coefficients is None:
            return self._problem.zeros(self._rows) + 1 / self._rows
        if coefficients.shape != (self._rows,):
            raise ValueError(
                f"coefficients have shape {tuple(coefficients.shape)}; one for each of "
                f"the {self._rows} recorded rows is needed"
            )
        return coefficients.detach()

    def _factors(self) -> Iterator[tuple[str, slice | Tensor, Factor]]:
        kind = self._problem.parameters
        everything = slice(0, self._rows)
        for source, delta in self._met:
            if not delta or not len(delta[0]):
                continue
            rows = everything if source.origin is None else source.origin
            gradient = delta[0].to(kind[source.names[0]].dtype)
            with torch.no_grad(), torch.autocast(gradient.device.type, enabled=False):
                factors = list(source.factors(gradient, source.names))
            for name, factor in factors:
                yield name, rows, factor


def _call(model: nn.Module, batch: Any, task: Tensor | None) -> Any:
    args, kwargs = batch
    return model(*args, **kwargs)


def _keep_gradient(source: Source, kept: list[Tensor]) -> RemovableHandle:
    place = source.edge.output_nr

    def keep(gradients: tuple[Tensor, ...]) -> None:
        if gradients[place] is not None:
            kept[:] = [gradients[place].detach()]

    handle: RemovableHandle = source.edge.node.register_prehook(keep)
    return handle
