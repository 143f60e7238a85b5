"""How the rows of a memory are distributed, over time, and what they look like."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from experiments.figures import PALETTE, drawn
from experiments.spread import Array

QUANTILES = 7
"""Of each quantity: the minimum, 5, 25, 50, 75 and 95 %, the maximum."""

_WIDTH = 8.8  # of a line of panels, in inches


def quantile_panels(
    panels: Sequence[tuple[str, Array]], sizes: Array | None = None
) -> str:
    """A panel for each quantity: its median, half and nine tenths of the rows.

    :param panels: name and :data:`QUANTILES` of each, shape (training experiences, 7);
        NaN where undefined.
    :param sizes: rows stored and effective sample size, shape (training experiences, 2),
        for a panel of their own; ``None`` for none.
    """
    count = len(panels) + (sizes is not None)
    across = 3 if count in (5, 6) else min(count, 4)
    down = -(-count // across)

    def paint(figure: Figure) -> None:
        every = figure.subplots(down, across, squeeze=False).flat
        for axes in every[count:]:
            axes.set_axis_off()
        for axes, (name, quantiles) in zip(every, panels, strict=False):
            _bands(axes, quantiles)
            _finish(axes, name, len(quantiles))
        if sizes is not None:
            _sizes(every[count - 1], sizes)
        figure.supxlabel("after training on experience", fontsize=9)

    return drawn((min(2.9, _WIDTH / across) * across, 2.1 * down + 0.2), paint)


def _bands(axes: Axes, quantiles: Array) -> None:
    x = np.arange(len(quantiles), dtype=float)
    if len(x) == 1:  # a band needs a width
        x, quantiles = np.array([-0.1, 0.1]), np.repeat(quantiles, 2, axis=0)
    low, q5, q25, median, q75, q95, high = quantiles.T
    axes.fill_between(x, q5, q95, color=PALETTE[0], alpha=0.16, linewidth=0)
    axes.fill_between(x, q25, q75, color=PALETTE[0], alpha=0.3, linewidth=0)
    for edge in (low, high):
        axes.plot(x, edge, color=PALETTE[0], linewidth=0.9, dashes=(1, 2))
    axes.plot(x, median, color=PALETTE[0], linewidth=1.7)
    known = quantiles[~np.isnan(quantiles).any(axis=1)]
    if len(known):
        # One row far out would press the bands flat.
        least, most = known[:, 1].min(), known[:, 5].max()
        bottom = max(known[:, 0].min(), 2 * least - most)
        top = min(known[:, 6].max(), 2 * most - least)
        margin = 0.04 * (top - bottom) or 0.5
        axes.set_ylim(bottom - margin, top + margin)


def _sizes(axes: Axes, sizes: Array) -> None:
    rows, effective = sizes.T
    x = np.arange(len(sizes))
    axes.plot(x, rows, color=PALETTE[-1], linewidth=1.2, dashes=(3, 2))
    axes.plot(x, effective, color=PALETTE[1], linewidth=1.7, marker="o", markersize=3.5)
    axes.set_ylim(0, None)
    _finish(axes, "effective sample size", len(sizes))


def _finish(axes: Axes, name: str, count: int) -> None:
    axes.set_title(name, pad=3, loc="left")
    axes.grid(axis="y")
    axes.tick_params(labelsize=7.5, length=2)
    axes.set_xlim(-0.15, max(count - 0.85, 0.15))
    if count <= 6:
        axes.set_xticks(range(count))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def strip(images: np.ndarray, across: int) -> bytes:
    """Images in lines of ``across``, a transparent pixel between them, as a PNG.

    :param images: uint8, shape (n, channels, height, width), 1, 3 or 4 channels.
    """
    n, channels, height, width = images.shape
    across = min(n, across)
    down = -(-n // across)
    colours = channels if channels == 3 else 1
    if channels != 4:  # with an opaque channel
        opaque = np.full((n, 1, height, width), 255, dtype=np.uint8)
        images = np.concatenate((images[:, :colours], opaque), axis=1)
    shape = (down * (height + 1) - 1, across * (width + 1) - 1, images.shape[1])
    sheet = np.zeros(shape, dtype=np.uint8)
    for i, image in enumerate(images):
        top, left = i // across * (height + 1), i % across * (width + 1)
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    stream = io.BytesIO()
    Image.fromarray(sheet).save(stream, format="png", optimize=True)
    return stream.getvalue()
