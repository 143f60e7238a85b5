"""What a training step's own passes tell of its rows, so that no others are made."""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_ext.features import Watch, watching_features
from avalanche_ext.gradients import Criterion as Loss
from avalanche_ext.gradients import GradientRecorder, per_sample_losses
from avalanche_ext.storage.criteria import ScoredRows, ScoringContext

# Relative to the gradient of a row's output: float32 sums of several losses.
_ALIKE = 1e-3


class TrainingPass:
    """Notes quantities of rows from one forward and one backward pass.

    Outputs and features are those of the pass, in the mode the model is trained in;
    losses are the criterion's of these outputs; gradient norms are of these losses, by
    :class:`~avalanche_ext.gradients.GradientRecorder`.

    The loss that is differentiated may weigh rows in any way, and be scaled: row i's
    weight ``c_i`` is read from the gradient of its output, ``∂loss/∂f_i = c_i ∂L_i/∂f_i``.
    Where the two are not parallel (another term of the loss reads the output, such as
    distillation), and where a layer has no formula, the norms are left unknown, and who
    asks for them makes a pass of its own.

    :param layer: whose input features are; see :func:`~avalanche_ext.features.features`.
    """

    def __init__(self, layer: str | None = None) -> None:
        self.layer = layer
        self._recorder: GradientRecorder | None = None
        self._forget()

    _stack: ExitStack
    _watch: Watch | None
    _output: Tensor | None
    _at_output: list[Tensor]
    _recording: bool
    _reads: frozenset[str]

    def begin(self, model: nn.Module, rows: int, reads: frozenset[str]) -> None:
        """Watch the forward pass to come.

        :param rows: of the batch.
        :param reads: quantities that are wanted.
        """
        self.end()
        self._forget()
        self._reads = reads
        if "features" in reads:
            self._watch = self._stack.enter_context(
                watching_features(model, rows, self.layer)
            )
            # Before the recorder may inspect the model with other rows.
            over = model.register_forward_hook(_Close(self._stack))
            self._stack.callback(over.remove)
        if "gradient_norms" in reads:
            if self._recorder is None or self._recorder.model is not model:
                self._recorder = GradientRecorder(model)
            self._recorder.start()
            self._recording = True

    def forwarded(self, output: Any) -> None:
        """The forward pass is over."""
        self._stack.close()
        if isinstance(output, Tensor):
            self._output = output.detach()
            if self._recording and output.requires_grad:
                output.register_hook(_Keep(self._at_output))  # type: ignore[no-untyped-call]

    def end(self) -> None:
        """The backward pass is over: take all hooks away."""
        self._stack.close()
        if self._recorder is not None:
            self._recorder.stop()

    def tell(self, context: ScoringContext, rows: ScoredRows, n: int) -> None:
        """Let a context know what was found out about ``rows``.

        :param n: their number; they are the first of the batch.
        """
        output = self._output
        if output is None or len(output) < n:
            return
        context.know(rows, outputs=output[:n])
        features = None if self._watch is None else self._watch.features(len(output))
        if features is not None:
            context.know(rows, features=features[:n])
        loss, y = context.loss, rows["y"]
        if loss is None or not isinstance(y, Tensor):
            return
        y = y.to(output.device)
        if self._recording and self._at_output:
            losses, slopes = _losses_and_slopes(loss, output[:n], y)
            norms = self._norms(slopes, n)
            if norms is not None:
                context.know(rows, gradient_norms=norms)
            context.know(rows, losses=losses)
        elif "losses" in self._reads:
            with torch.no_grad():
                context.know(rows, losses=per_sample_losses(loss, output[:n], y))

    def _norms(self, slopes: Tensor, n: int) -> Tensor | None:
        """``‖∇L_i‖`` of the first ``n`` rows, by ``∂L_i/∂f_i`` of each."""
        assert self._recorder is not None
        if self._recorder.missing:
            return None
        total = self._at_output[0].flatten(1).float()
        own = slopes.flatten(1).float()
        squares = own.square().sum(1)
        weight = (total[:n] * own).sum(1) / squares
        apart = (total[:n] - weight[:, None] * own).norm(dim=1)
        flat = squares == 0  # and with it the gradient
        alike = flat | (apart <= _ALIKE * total[:n].norm(dim=1))
        unknown = ~alike | (~flat & (weight == 0))
        if unknown.any():
            return None
        weights = total.new_ones(len(total))
        weights[:n] = weight.masked_fill(flat, 1.0)
        return self._recorder.gradient_norms(weights)[:n].masked_fill(flat, 0.0)

    def _forget(self) -> None:
        self._stack, self._watch, self._output = ExitStack(), None, None
        self._at_output, self._recording = [], False
        self._reads = frozenset()

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to one step."""
        return {"layer": self.layer}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.layer, self._recorder = state["layer"], None
        self._forget()


class _Close:
    """A module hook that ends what a stack holds."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        self.stack.close()


class _Keep:
    """A tensor hook that keeps the gradient."""

    def __init__(self, kept: list[Tensor]) -> None:
        self.kept = kept

    def __call__(self, gradient: Tensor) -> None:
        self.kept[:] = [gradient.detach()]


def _losses_and_slopes(loss: Loss, output: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """``L_i`` and ``∂L_i/∂f_i`` of each row."""
    with torch.enable_grad(), torch.autocast(output.device.type, enabled=False):
        leaf = _wide(output.detach()).requires_grad_()
        losses = per_sample_losses(loss, leaf, y)
        (slopes,) = torch.autograd.grad(losses.sum(), leaf)
    return losses.detach(), slopes


def _wide(output: Tensor) -> Tensor:
    half = output.dtype in (torch.float16, torch.bfloat16)
    return output.float() if half else output
