"""Permuted and rotated images: each experience sees pixels in other places.

Both are one gather: pixel ``i`` of the new image is pixel ``map[i]`` of the old one, or
0 where ``map[i]`` is −1. So images stay ``uint8`` and all experiences have the same
transform.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image

from experiments.draws import generator

Pixels = Literal["same", "permuted", "rotated", "rising"]
"""What an experience does to its images: nothing, a random permutation of the pixels, or
a rotation by a random angle from 0° to 180°. Rising angles are those of Gradient Episodic
Memory: of n experiences, the t-th draws its own from the t-th of n parts."""


def pixel_maps(
    pixels: Pixels, shape: Sequence[int], experiences: int, seed: int
) -> list[np.ndarray] | None:
    """The map of each experience, drawn by the seed; ``None`` for ``"same"``.

    :param shape: ``(channels, height, width)`` of an image.
    """
    if pixels == "same":
        return None
    height, width = shape[-2:]
    maps = []
    for t in range(experiences):
        draw = generator(seed, "pixels", t)
        if pixels == "permuted":
            maps.append(draw.permutation(height * width))
        else:
            part = (t, experiences) if pixels == "rising" else (0, 1)
            angle = 180 * (part[0] + draw.uniform()) / part[1]
            maps.append(rotation_map(height, width, angle))
    return maps


def rotation_map(height: int, width: int, angle: float) -> np.ndarray:
    """The map of a rotation about the centre, nearest neighbour, zeros outside.

    :param angle: in degrees, counter-clockwise.
    """
    # Pillow itself rotates an image of positions, so the rule is exactly its own.
    positions = np.arange(1, height * width + 1, dtype=np.int32).reshape(height, width)
    rotated = Image.fromarray(positions).rotate(angle, Image.Resampling.NEAREST)
    return np.asarray(rotated).reshape(-1).astype(np.int64) - 1


def apply_map(images: np.ndarray, pixel_map: np.ndarray, out: np.ndarray) -> None:
    """Write mapped images to ``out``.

    :param images: shape ``(n, channels, height, width)``, C-contiguous like ``out``.
    """
    flat = (*images.shape[:2], -1)
    made = out.reshape(flat)
    # "clip" lets numpy write into out without a copy; it reads a pixel for −1 too.
    np.take(images.reshape(flat), pixel_map, axis=2, out=made, mode="clip")
    made[:, :, pixel_map < 0] = 0
