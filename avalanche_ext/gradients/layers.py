"""Per-sample gradients of a layer from its input and the gradient of its output.

With the row's loss ``L_i``, the layer's input ``a_i`` and ``δ_i = ∂L_i/∂output_i``, the
gradient for a weight is a product of the two: a linear map has ``δ_i a_iᵀ``, summed
over the places at which it is applied (a convolution is one on patches), a
normalisation layer ``Σ δ_i x̂_i`` with the normalised input, an embedding ``δ_i`` at the
entries looked up, and every bias ``Σ δ_i``.

I. Goodfellow, Efficient per-example gradient computations, 2015; G. Rochette et al.,
Efficient per-example gradient computations in convolutional neural networks, 2019.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avalanche_ext.gradients.factors import Direct, Factor, Lookup, Outer

_Convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BatchNorm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_KINDS: tuple[type[nn.Module], ...] = (
    nn.Linear,
    *_Convolution,
    nn.Embedding,
    nn.LayerNorm,
    nn.GroupNorm,
    *_BatchNorm,
)


def refusal(module: nn.Module) -> str | None:
    """Why no formula of this file is that of ``module``; ``None`` where one is."""
    kind = next((kind for kind in _KINDS if isinstance(module, kind)), None)
    if kind is None:
        return f"no formula for {type(module).__name__}"
    if type(module).forward is not kind.forward or "forward" in vars(module):
        return f"{type(module).__name__} has a forward of its own"
    unknown = module._parameters.keys() - {"weight", "bias"}
    if unknown:
        return f"unknown parameters {', '.join(sorted(unknown))}"
    if isinstance(module, nn.Embedding) and (
        module.scale_grad_by_freq or module.max_norm is not None
    ):
        return "an embedding with max_norm or scale_grad_by_freq"
    return None


def fits(module: nn.Module, inputs: Tensor, output: torch.Size) -> bool:
    """Whether the first dimension of the input may be that of rows."""
    if inputs.dim() == 0 or inputs.shape[0] != output[0]:
        return False
    if isinstance(module, nn.Linear):
        return inputs.dim() > 1
    if isinstance(module, _Convolution):
        return inputs.dim() == len(module.kernel_size) + 2
    if isinstance(module, nn.LayerNorm):
        return inputs.dim() > len(module.normalized_shape)
    return isinstance(module, nn.Embedding) or inputs.dim() > 1


def weight_factor(
    module: nn.Module, inputs: Tensor, delta: Tensor, training: bool
) -> Factor:
    """The rows' gradients for ``module.weight``.

    :param inputs: of the module, rows first.
    :param delta: gradient of its output, rows first.
    :param training: whether batch norm used the statistics of this batch.
    """
    assert isinstance(module.weight, Tensor)
    shape = module.weight.shape
    if isinstance(module, nn.Embedding):
        delta = delta.reshape(len(delta), -1, shape[1])
        inputs = inputs.reshape(len(inputs), -1)
        if module.padding_idx is not None:
            delta = delta * (inputs != module.padding_idx)[..., None]
        return Lookup(delta, inputs, shape)
    inputs = inputs.to(delta.dtype)
    if isinstance(module, nn.Linear):
        places = (len(delta), -1)
        return Outer(
            delta.reshape(*places, shape[0]).mT[:, None],
            inputs.reshape(*places, shape[1]).mT[:, None],
            shape,
        )
    if isinstance(module, _Convolution):
        grouped = delta.reshape(len(delta), module.groups, -1, delta[0, 0].numel())
        return Outer(grouped, _patches(module, inputs, delta.shape[2:]), shape)
    normalised = delta * _normalised(module, inputs, training)
    return Direct(_without_places(module, normalised))


def bias_factor(module: nn.Module, delta: Tensor) -> Factor:
    """The rows' gradients for ``module.bias``."""
    if isinstance(module, nn.Linear):
        return Direct(delta.reshape(len(delta), -1, delta.shape[-1]).sum(1))
    return Direct(_without_places(module, delta))


def added_factor(delta: Tensor, shape: torch.Size) -> Factor:
    """The rows' gradients for a parameter that is added to something larger.

    :param delta: gradient of the sum, rows first.
    """
    inner = shape[1:] if len(shape) == delta.dim() else shape  # else 1, for all rows
    before = delta.dim() - 1 - len(inner)
    sums = delta.flatten(1, before).sum(1) if before else delta
    ones = [at + 1 for at, size in enumerate(inner) if size == 1]
    if ones:
        sums = sums.sum(ones, keepdim=True)
    return Direct(sums.reshape(len(delta), *shape))


def _without_places(module: nn.Module, values: Tensor) -> Tensor:
    """Sums over all places: of a layer norm those before, else those after channels."""
    if isinstance(module, nn.LayerNorm):
        shape = tuple(module.normalized_shape)
        return values.reshape(len(values), -1, *shape).sum(1)
    return values.flatten(2).sum(2) if values.dim() > 2 else values


def _normalised(module: nn.Module, inputs: Tensor, training: bool) -> Tensor:
    if isinstance(module, nn.LayerNorm):
        return F.layer_norm(inputs, module.normalized_shape, eps=module.eps)
    if isinstance(module, nn.GroupNorm):
        return F.group_norm(inputs, module.num_groups, eps=module.eps)
    assert isinstance(module, _BatchNorm)
    mean, variance = module.running_mean, module.running_var
    if training or mean is None or variance is None:
        return F.batch_norm(inputs, None, None, training=True, eps=module.eps)
    over = (1, -1) + (1,) * (inputs.dim() - 2)
    scale = (variance + module.eps).rsqrt()
    return (inputs - mean.view(over)) * scale.view(over)


def _patches(
    module: nn.Conv1d | nn.Conv2d | nn.Conv3d, inputs: Tensor, places: torch.Size
) -> Tensor:
    """What each output place of a convolution is computed from, shape
    ``(m, groups, inputs, places)``."""
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    if any(module._reversed_padding_repeated_twice):
        around = module._reversed_padding_repeated_twice
        inputs = F.pad(inputs, around, mode=mode)
    # A copy of a strided view is several times faster than torch's unfold.
    inputs = inputs.contiguous()
    rows, channels = inputs.shape[:2]
    step_row, step_channel, *steps = inputs.stride()
    within = channels // module.groups
    view = inputs.as_strided(
        (rows, module.groups, within, *module.kernel_size, *places),
        (
            step_row,
            step_channel * within,
            step_channel,
            *(s * d for s, d in zip(steps, module.dilation, strict=True)),
            *(s * d for s, d in zip(steps, module.stride, strict=True)),
        ),
        inputs.storage_offset(),
    )
    return view.reshape(rows, module.groups, -1, places.numel())
