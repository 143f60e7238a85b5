"""Features of rows: the input of the last layer with parameters, or of a named layer.

Distances and similarities of a memory's rows are taken between these vectors.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from avalanche_ext.gradients.problem import Forward, forward_rows, takes_task_labels
from avalanche_ext.gradients.rows import apply, count_rows, take
from avalanche_ext.undisturbed import device_of, undisturbed


def features(
    model: nn.Module,
    x: Any,
    task: Tensor | None = None,
    *,
    layer: str | None = None,
    forward: Forward = forward_rows,
    rows_per_pass: int = 256,
) -> Tensor:
    """The features of each row, shape ``(n, d)``, in evaluation mode.

    By default the input of the layer with parameters that the forward pass meets last,
    each row flattened to a vector. Where there are several heads, each row has those of
    its own head: the input of the multi-task module that shares rows out to them, which
    has all rows in the order of the batch. Where there is no such module, rows of each
    task are looked at apart.

    The model is left as it was: modes, buffers, hooks, ``.grad`` and random states.

    :param x: ``n`` rows of the model's input; a tensor or nested tensors.
    :param task: task labels, shape ``(n,)``, for models that take them.
    :param layer: the name of another layer (of ``model.named_modules()``), whose first
        input is taken; that of its last call, if there are several.
    :param forward: how the model is called with rows and their task labels.
    :param rows_per_pass: rows of one forward pass; a smaller number takes less memory.
    :raises ValueError: for a name that is no layer, a layer that is not called, a model
        without parameters, or a layer whose input does not have the batch's rows.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> features(model, torch.rand(5, 2, 2)).shape
    torch.Size([5, 3])
    >>> features(model, torch.rand(5, 2, 2), layer="1").shape
    torch.Size([5, 4])
    """
    return outputs_and_features(
        model,
        x,
        task,
        layer=layer,
        forward=forward,
        rows_per_pass=rows_per_pass,
    )[1]


def outputs_and_features(
    model: nn.Module,
    x: Any,
    task: Tensor | None = None,
    *,
    layer: str | None = None,
    forward: Forward = forward_rows,
    rows_per_pass: int = 256,
) -> tuple[Any, Tensor]:
    """The model's output for each row, and :func:`features` from the same passes."""
    rows = count_rows(x)
    outputs, found = [], []
    with undisturbed(model):
        for start in range(0, max(rows, 1), rows_per_pass):
            some = slice(start, start + rows_per_pass)
            inputs, labels = _place(take((x, task), some), device_of(model))
            output, vectors = _one_pass(model, inputs, labels, layer, forward)
            outputs.append(output)
            found.append(vectors)
    return joined(outputs), torch.cat(found)


@dataclass
class Watch:
    """What :func:`watching_features` saw.

    :param copy: what is seen, so that the model may change it in place.
    """

    copy: bool = False
    _input: Tensor | None = None
    _version: int | None = None
    _called: bool = False

    @property
    def changed(self) -> bool:
        """Whether the model changed the features in place after they were seen."""
        return self._input is not None and _version(self._input) != self._version

    def features(self, rows: int) -> Tensor | None:
        """The features of a batch of ``rows``, shape ``(rows, d)``, detached.

        ``None`` where the input seen does not have these rows, or was changed in place
        after it was seen.

        :raises ValueError: if no layer was called.
        """
        if not self._called:
            raise ValueError(
                "the forward pass met no layer to take features from: the model has no "
                "layer with parameters, or the layer named is not called"
            )
        seen = self._input
        if seen is None or len(seen) != rows or self.changed:
            return None
        seen = seen.detach()
        vectors = seen.flatten(1) if seen.ndim > 1 else seen[:, None]
        return vectors if vectors.is_floating_point() else vectors.float()

    def note(self, value: Tensor | None) -> None:
        """Take ``value`` for the features, in place of what was seen before."""
        self._called = True
        if self.copy and value is not None:
            value = value.clone()
        self._input = value
        self._version = None if value is None else _version(value)


@contextmanager
def watching_features(
    model: nn.Module, rows: int, layer: str | None = None, *, copy: bool = False
) -> Iterator[Watch]:
    """Note the features of a forward pass that is made anyway, in a training step say.

    They are those of the mode that the model is in: with dropout, those left by it.

    :param rows: of the batch.
    :param layer: as for :func:`features`.
    :param copy: the features, for a model that changes them in place afterwards.
    :raises ValueError: for a name that is no layer.

    >>> model, x = nn.Linear(3, 2), torch.rand(4, 3)
    >>> with watching_features(model, rows=4) as watch:
    ...     output = model(x)
    >>> torch.equal(watch.features(4), x)
    True
    """
    watch = Watch(copy)
    handles: list[RemovableHandle] = []
    try:
        if layer is not None:
            handles.append(_watch_one(_named(model, layer), watch))
        else:
            _watch_last(model, rows, watch, handles)
        yield watch
    finally:
        for handle in handles:
            handle.remove()


def joined(parts: list[Any]) -> Any:
    """Outputs of several passes as that of one: tensors, or nested tensors."""
    first = parts[0]
    if isinstance(first, Tensor):
        return first if len(parts) == 1 else torch.cat(parts)
    if isinstance(first, Mapping):
        return {name: joined([part[name] for part in parts]) for name in first}
    values = [joined(list(values)) for values in zip(*parts, strict=True)]
    return type(first)(*values) if hasattr(first, "_fields") else type(first)(values)


def _one_pass(
    model: nn.Module, x: Any, task: Tensor | None, layer: str | None, forward: Forward
) -> tuple[Any, Tensor]:
    rows = count_rows(x)
    for copy in (False, True):
        with watching_features(model, rows, layer, copy=copy) as watch:
            output = forward(model, x, task)
        if not watch.changed:
            break
    found = watch.features(rows)
    if found is None and task is not None:
        # A head met a part of the rows; rows of one task are not shared out.
        found = _by_task(model, x, task, layer, forward)
    if found is None:
        raise ValueError(
            "the layer's input does not have the batch's rows, one each, so it gives no "
            f"features of the {rows} rows: name a layer whose input does, layer=…"
        )
    return output, found


def _by_task(
    model: nn.Module, x: Any, task: Tensor, layer: str | None, forward: Forward
) -> Tensor | None:
    order, parts = [], []
    for label in torch.unique(task):
        members = (task == label).nonzero()[:, 0]
        with watching_features(model, len(members), layer, copy=True) as watch:
            forward(model, take(x, members), task[members])
        part = watch.features(len(members))
        if part is None:
            return None
        order.append(members)
        parts.append(part)
    found = torch.cat(parts)
    return torch.empty_like(found).index_copy_(0, torch.cat(order), found)


def _watch_one(module: nn.Module, watch: Watch) -> RemovableHandle:
    def note(module: nn.Module, args: Any, kwargs: Any) -> None:
        watch.note(_first_tensor(args, kwargs))

    return module.register_forward_pre_hook(note, with_kwargs=True)


@dataclass
class _Sharing:
    """A multi-task module that is being called with all rows."""

    value: Tensor
    met: int = 0  # rows that layers with parameters met inside, all together
    inner: bool = False  # whether a module inside was found to share rows out


def _watch_last(
    model: nn.Module, rows: int, watch: Watch, handles: list[RemovableHandle]
) -> None:
    open_modules: list[_Sharing | None] = []

    def layer_called(module: nn.Module, args: Any, kwargs: Any) -> None:
        value = _first_tensor(args, kwargs)
        met = 0 if value is None else len(value)
        watch.note(value if met == rows else None)
        for sharing in open_modules:
            if sharing is not None:
                sharing.met += met

    def sharing_begins(module: nn.Module, args: Any, kwargs: Any) -> None:
        value = _first_tensor(args, kwargs)
        whole = value is not None and len(value) == rows
        open_modules.append(_Sharing(value) if whole and value is not None else None)

    def sharing_ends(module: nn.Module, args: Any, output: Any) -> None:
        sharing = open_modules.pop()
        # Each row met one layer inside, its head: what went in is what heads were given.
        if sharing is not None and sharing.met == rows and not sharing.inner:
            watch.note(sharing.value)
            for outer in open_modules:
                if outer is not None:
                    outer.inner = True

    for module in model.modules():
        if any(parameter is not None for parameter in module._parameters.values()):
            handles.append(
                module.register_forward_pre_hook(layer_called, with_kwargs=True)
            )
        if takes_task_labels(module):
            handles.append(
                module.register_forward_pre_hook(sharing_begins, with_kwargs=True)
            )
            handles.append(module.register_forward_hook(sharing_ends))


def _named(model: nn.Module, layer: str) -> nn.Module:
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if layer not in modules:
        raise ValueError(
            f"{layer!r} is no layer of {type(model).__name__}: choose one of "
            f"{[name for name in modules if name]}"
        )
    return modules[layer]


def _first_tensor(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            return value if value.ndim else None
    return None


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _place(batch: Any, device: torch.device) -> Any:
    return apply(batch, lambda values: values.detach().to(device))
