"""Several passes with dropout, as one."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from avalanche_ext.gradients import Forward
from avalanche_ext.gradients.problem import takes_task_labels
from avalanche_ext.gradients.rows import apply, count_rows, take
from avalanche_ext.undisturbed import device_of, undisturbed

_KINDS = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
# What alpha dropout sets dropped numbers to: −(scale · alpha) of SELU.
_SELU_FLOOR = -1.7580993408473766


def dropout_outputs(
    model: nn.Module,
    x: Any,
    task: Tensor | None,
    *,
    passes: int,
    seed: int,
    forward: Forward,
    rows_per_pass: int = 1024,
) -> tuple[Tensor, bool]:
    """The outputs of ``passes`` forward passes that differ in what dropout drops.

    Only layers of ``torch.nn``'s dropout classes drop (not functional dropout, nor that
    inside attention and recurrent layers); everything else is in evaluation mode. The
    passes are one over repeated rows, and only from the first dropout layer on: what
    comes before is the same in all of them. Where a model does not allow that (it needs
    the number of rows it was given), the rows are repeated from the start, with the
    same result. Masks are drawn here, from ``seed``, so that global random states are
    not touched.

    :param rows_per_pass: repeated rows of one forward pass at most.
    :return: outputs of shape ``(passes, n, …)``, and whether any layer dropped; where
        none did, they are of one pass, shape ``(1, n, …)``.
    :raises ValueError: for outputs that are no tensor of ``n`` rows.
    """
    generator = Generator(device_of(model)).manual_seed(seed)
    step = max(1, rows_per_pass // passes)
    found, any_dropped = [], False
    with undisturbed(model):
        for start in range(0, max(1, count_rows(x)), step):
            inputs, labels = apply(
                take((x, task), slice(start, start + step)),
                lambda values: values.detach().to(generator.device),
            )
            output, dropped = _repeated(
                model, inputs, labels, passes, generator, forward
            )
            found.append(output)
            any_dropped |= dropped
    count = max(len(output) for output in found)
    outputs = [output.expand(count, *output.shape[1:]) for output in found]
    return torch.cat(outputs, 1), any_dropped


def _repeated(
    model: nn.Module,
    x: Any,
    task: Tensor | None,
    passes: int,
    generator: Generator,
    forward: Forward,
) -> tuple[Tensor, bool]:
    rows = count_rows(x)
    before = generator.get_state()
    masks = _Masks(passes, generator, rows)
    try:
        with _dropping(model, masks):
            output = forward(model, x, task)
    except Exception:
        output = None
    if not _has_rows(output, passes * rows if masks.drawn else rows):
        generator.set_state(before)
        x, task = apply((x, task), lambda values: _repeat(values, passes))
        masks = _Masks(passes, generator)
        with _dropping(model, masks):
            output = forward(model, x, task)
        if not _has_rows(output, passes * rows):
            raise ValueError(
                f"the model's output for {passes * rows} rows is "
                f"{tuple(output.shape) if isinstance(output, Tensor) else type(output)}; "
                "it must be a tensor with one prediction a row"
            )
    count = passes if len(output) == passes * rows else 1
    return output.view(count, rows, *output.shape[1:]), masks.drawn


@dataclass
class _Masks:
    """What is dropped in one forward pass.

    :param rows: that the first dropout layer is to repeat; ``None``: they are repeated.
    :param drawn: whether any layer dropped.
    """

    passes: int
    generator: Generator
    rows: int | None = None
    drawn: bool = False

    def drop(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        """Called after a dropout layer, which in evaluation mode did nothing."""
        if not self.drawn and len(output) == self.rows:
            output = _repeat(output, self.passes)
        self.drawn = True
        p = float(module.p)  # type: ignore[arg-type]
        if p == 1:
            return torch.zeros_like(output)  # of alpha dropout, too
        whole_channels = not isinstance(module, (nn.Dropout, nn.AlphaDropout))
        shape = output.shape
        if whole_channels:
            shape = shape[:2] + (1,) * (len(shape) - 2)
        kept = torch.rand(shape, generator=self.generator, device=output.device) >= p
        if isinstance(module, (nn.AlphaDropout, nn.FeatureAlphaDropout)):
            scale = 1 / math.sqrt((1 - p) * (1 + p * _SELU_FLOOR**2))
            return (
                torch.where(kept, output, _SELU_FLOOR)
                .mul_(scale)
                .sub_(scale * p * _SELU_FLOOR)
            )
        return output * kept.to(output.dtype).mul_(1 / (1 - p))

    def share(self, module: nn.Module, args: Any) -> Any:
        """Called before rows are shared out to heads: their labels are repeated, too."""
        if not self.drawn or self.rows is None or len(args) != 2:
            return None
        x, task = args
        if not _has_rows(x, self.passes * self.rows) or not _has_rows(task, self.rows):
            return None
        return x, _repeat(task, self.passes)


def has_dropout(model: nn.Module) -> bool:
    """Whether the model has a layer that :func:`dropout_outputs` lets drop."""
    return any(_drops(module) for module in model.modules())


def _drops(module: nn.Module) -> bool:
    return type(module) in _KINDS and bool(module.p)


@contextmanager
def _dropping(model: nn.Module, masks: _Masks) -> Iterator[None]:
    handles = []
    try:
        for module in model.modules():
            if _drops(module):
                handles.append(module.register_forward_hook(masks.drop))
            if takes_task_labels(module):
                handles.append(module.register_forward_pre_hook(masks.share))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _repeat(values: Tensor, times: int) -> Tensor:
    """All rows, then all rows again."""
    return values.repeat(times, *(1,) * (values.ndim - 1))


def _has_rows(output: Any, rows: int) -> bool:
    return isinstance(output, Tensor) and output.ndim > 0 and len(output) == rows
