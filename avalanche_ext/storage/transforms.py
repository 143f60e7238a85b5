"""What a pipeline of per-sample transforms is when whole batches are at hand.

Three answers, by inspection of each step:

* *batched*: the step does the same to a batch as to each of its samples, bit for bit
  (``ToTensor`` of 8-bit images, ``Normalize``, dtype changes, and whatever says so by
  a true attribute ``batched``);
* *deterministic*: it does the same each time, but a sample at a time (``Resize``,
  ``CenterCrop``, ``Pad``, ``Grayscale``, and whatever has a true ``deterministic``);
* anything else may be random: it is called a sample at a time, every time, in the
  order in which a loader without workers would call it.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import default_collate
from torchvision import transforms as v1
from torchvision.transforms import v2

from avalanche_ext.arguments import is_number
from avalanche_ext.storage.rows import Rows, each

BatchTransform = Callable[[Rows], Rows]
"""Makes the model's input of the rows of a batch."""

_BATCHED = (v1.Normalize, v1.ConvertImageDtype, v2.Normalize, v2.ToDtype)
_IMAGE_TO_TENSOR = (v1.PILToTensor, v2.PILToTensor, v2.ToImage)
_TO_TENSOR = (v1.ToTensor, v2.ToTensor)
_ON_IMAGES = (v1.Resize, v1.CenterCrop, v1.Pad, v1.Grayscale)
_ON_IMAGES_V2 = (v2.Resize, v2.CenterCrop, v2.Pad, v2.Grayscale)
_DETERMINISTIC = (
    *_ON_IMAGES,
    *_ON_IMAGES_V2,
    *_TO_TENSOR,
    *_IMAGE_TO_TENSOR,
    *_BATCHED,
)
_IMAGE_MODES = ("L", "RGB", "RGBA")


@dataclass(frozen=True)
class ScaleToUnit:
    """``x / maximum`` as float32, of a sample or of a batch.

    :param maximum: the largest value of the integer data, 255 for 8-bit images.
    :raises ValueError: for a maximum that is not above 0.
    """

    maximum: float = 255
    batched: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not is_number(self.maximum) or not 0 < self.maximum < math.inf:
            raise ValueError(
                "maximum must be a number above 0, the largest value of the data, got "
                f"{self.maximum!r}"
            )

    def __call__(self, x: Tensor) -> Tensor:
        return x.div(self.maximum)


@dataclass(frozen=True)
class Pipeline:
    """Per-sample steps split by when they run."""

    once: tuple[Callable[[Any], Any], ...]
    """Applied to each sample when it is read, before it is kept."""
    batch: BatchTransform | None
    """Applied to each batch of kept rows."""
    repeatable: bool
    """Whether ``batch`` does the same each time, so that it may run ahead of time."""


def plan(steps: Sequence[Callable[[Any], Any]], sample: Any) -> Pipeline:
    """Split ``steps`` by what each is, for samples such as ``sample``.

    :param steps: the per-sample pipeline, containers allowed.
    :param sample: a sample as the data set gives it.
    """
    flat = _flat(steps)
    if len(flat) == 1 and isinstance(flat[0], OnOne):
        whole = flat[0].transform
        return Pipeline((), whole, is_deterministic(whole))
    if not all(_repeats(step) for step in flat):
        return Pipeline((), PerSample(tuple(flat), image_mode(sample)), False)
    split = 0
    forms: list[Callable[[Any], Any]] = []
    for position, step in enumerate(flat):
        form = _batch_form(step, image_mode(sample) is not None)
        if form is None:
            split, forms = position + 1, []
        elif form is not _same:
            forms.append(form)
        sample = step(sample)
    return Pipeline(tuple(flat[:split]), Chain(tuple(forms)) if forms else None, True)


@dataclass(frozen=True)
class Chain:
    """Steps one after the other, on a batch."""

    steps: tuple[Callable[[Any], Any], ...]

    def __call__(self, rows: Rows) -> Rows:
        for step in self.steps:
            rows = step(rows)
        return rows


@dataclass(frozen=True)
class OnOne:
    """A transform of batches, on one sample."""

    transform: BatchTransform

    def __call__(self, row: Rows) -> Rows:
        return each(lambda x: x[0], self.transform(each(lambda x: x[None], row)))


@dataclass(frozen=True)
class PerSample:
    """Steps one after the other, on one sample after the other.

    :param mode: the mode of the images that samples were before they became rows;
        ``None`` where a row is the sample.
    """

    steps: tuple[Callable[[Any], Any], ...]
    mode: str | None

    def __call__(self, rows: Rows) -> Rows:
        if not isinstance(rows, Tensor):
            raise TypeError(f"per-sample transforms take tensors, got {type(rows)}")
        samples = rows.unbind() if self.mode is None else map(to_image, rows.cpu())
        chain = Chain(self.steps)
        made: Rows = default_collate([chain(sample) for sample in samples])
        return made


def fingerprint(transform: BatchTransform | None) -> str | None:
    """A digest of the types and parameters of a transform.

    Two transforms that are built alike have the same, also in another process.
    """
    if transform is None:
        return None
    return hashlib.sha256(_described(transform).encode()).hexdigest()


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        data = hashlib.sha256(value.detach().cpu().numpy().tobytes()).hexdigest()
        return f"tensor {value.dtype} {tuple(value.shape)} {data}"
    if isinstance(value, np.ndarray):
        return _described(torch.from_numpy(value))
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_described, value))}]"
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(map(_described, value)))}}}"
    if isinstance(value, dict):
        items = sorted((str(name), _described(part)) for name, part in value.items())
        return f"{{{', '.join(f'{name}: {part}' for name, part in items)}}}"
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    code = getattr(value, "__code__", None)
    if code is not None:
        return f"{value.__qualname__} {code.co_code.hex()} {code.co_consts!r}"
    if isinstance(value, functools.partial):
        return f"{kind} {_described([value.func, value.args, value.keywords])}"
    if hasattr(value, "__dict__") and not isinstance(value, (type, Enum)):
        return f"{kind} {_described(vars(value))}"
    return f"{kind} {value!r}"


def image_mode(sample: Any) -> str | None:
    """The mode of an image with 8 bits a channel, ``None`` for anything else."""
    if isinstance(sample, Image.Image) and sample.mode in _IMAGE_MODES:
        return str(sample.mode)
    return None


def to_row(image: Image.Image) -> Tensor:
    """The ``uint8`` pixels, shape ``(channels, height, width)``."""
    pixels = np.array(image, copy=True)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def to_image(row: Tensor) -> Image.Image:
    """The inverse of :func:`to_row`."""
    pixels = row.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _flat(steps: Sequence[Any]) -> list[Callable[[Any], Any]]:
    flat: list[Callable[[Any], Any]] = []
    for step in steps:
        if isinstance(step, (v1.Compose, v2.Compose, Chain)):
            inner = step.steps if isinstance(step, Chain) else step.transforms
            flat.extend(_flat(inner))
        elif step is not None:
            flat.append(step)
    return flat


def is_deterministic(transform: Any) -> bool:
    """Whether every step of a transform is known to do the same each time."""
    return all(_repeats(step) for step in _flat([transform]))


def _repeats(step: Any) -> bool:
    return bool(
        type(step) in _DETERMINISTIC
        or getattr(step, "deterministic", False)
        or getattr(step, "batched", False)
    )


def _batch_form(step: Any, image: bool) -> Callable[[Any], Any] | None:
    if image:
        if type(step) in _TO_TENSOR:
            return ScaleToUnit()
        return _same if type(step) in _IMAGE_TO_TENSOR else None
    if type(step) in _BATCHED or getattr(step, "batched", False):
        batched: Callable[[Any], Any] = step
        return batched
    return None


def _same(rows: Rows) -> Rows:
    return rows
