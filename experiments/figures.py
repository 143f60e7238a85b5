"""The figures of a report, each one an SVG element to put into an HTML page.

Arrays hold fractions of 1 with NaN where a value is undefined; rows are training
experiences, columns test experiences, both counted from 0 as Avalanche counts them.
Text and axes take the page's own colours (``currentColor`` and ``--paper``), so that one
figure serves light, dark and print. Everything is drawn on ``Figure`` objects: no
display, no pyplot and no state that outlives a call.
"""

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from experiments.quantities import written
from experiments.spread import Array

# Okabe and Ito's set without black and yellow, which vanish on one of the two schemes.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
DASHES = ("", "5 2", "1.5 1.5", "7 2 1.5 2")

# Colours that no figure uses otherwise, exchanged for the page's own at the end.
_INK, _PAPER = "#010203", "#fdfcfb"
_SCALE = matplotlib.colormaps["viridis"]
_NUMBERED = 30  # a matrix with more columns has cells too small for numbers
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",  # the same figure is the same text in every process
    "text.usetex": False,
    "text.parse_math": False,
    "text.color": _INK,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 8,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": _INK,
    "grid.alpha": 0.14,
    "grid.linewidth": 0.6,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


def line_style(index: int) -> tuple[str, str]:
    """Colour and SVG dash pattern of the ``index``-th line of a comparison."""
    return PALETTE[index % len(PALETTE)], DASHES[index // len(PALETTE) % len(DASHES)]


def accuracy_matrix(mean: Array) -> str:
    """Heat map of an accuracy matrix, in percent, with its diagonal outlined.

    :param mean: accuracies, shape (training experiences, test experiences); one row
        for several columns (all data at once) has no diagonal.
    """
    rows, columns = mean.shape
    numbered = columns <= _NUMBERED
    cell = min(0.52, max(0.36, 5.0 / columns)) if numbered else 7.0 / columns
    with matplotlib.rc_context(_STYLE):
        figure = Figure((cell * columns + 1.5, cell * rows + 0.75))
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot()
        cells = np.ma.masked_invalid(mean)
        # Beyond some thousand cells an embedded picture is smaller than their outlines.
        mesh = axes.pcolormesh(
            cells, cmap=_SCALE, vmin=0, vmax=1, rasterized=not numbered
        )
        axes.set_aspect("equal")
        axes.invert_yaxis()
        if numbered:
            _write_cells(axes, 100 * mean)
        for i in range(rows if rows == columns else 0):
            frame = Rectangle((i + 0.04, i + 0.04), 0.92, 0.92, fill=False)
            frame.set(edgecolor=_on(mean[i, i]), linewidth=1.5)
            axes.add_patch(frame)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.set_xticks(*_counted(columns, centre=0.5))
        axes.set_xlabel("tested on experience")
        if rows == 1:
            axes.set_yticks([])
            return _svg(figure)
        axes.set_yticks(*_counted(rows, centre=0.5))
        axes.set_ylabel("after training on experience")
        bar = figure.colorbar(mesh, ax=axes, fraction=0.04, pad=0.02, aspect=30)
        bar.set_ticks([0, 0.5, 1], labels=["0", "50", "100 %"])
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0)
        return _svg(figure)


def accuracy_over_time(mean: Array, sd: Array, names: Sequence[str]) -> str:
    """Accuracy of each test experience after each training experience.

    Up to seven experiences share one panel; more get a small panel each, with the mean
    over the experiences seen so far as common background.

    :param mean: mean over seeds, shape (training experiences, test experiences).
    :param sd: its standard deviation, NaN where there is none.
    :param names: names of the test experiences.
    """
    seen = 100 * np.array([_mean(row[: t + 1]) for t, row in enumerate(mean)])
    mean, sd = 100 * mean, 100 * sd
    with matplotlib.rc_context(_STYLE):
        if len(names) > len(PALETTE):
            return _svg(_small_multiples(mean, sd, seen))
        figure = Figure((6.1, 3.4))
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot()
        handles = [_course(axes, mean[:, i], sd[:, i], i) for i in range(len(names))]
        handles += axes.plot(seen, color=_INK, linewidth=1, dashes=(3, 2))
        _percent_axis(axes)
        axes.set_ylabel("accuracy, %")
        _count_axis(axes, len(mean))
        axes.set_xlabel("after training on experience")
        _legend(axes, handles, [*names, "mean of those seen"], "tested on experience")
        return _svg(figure)


def bars(mean: Array, sd: Array, label: str) -> str:
    """One bar an experience, in percent, with ± sd; "–" where undefined.

    :param mean: shape (test experiences,).
    :param sd: standard deviations, NaN where there is none.
    :param label: what the bars are; the label of the vertical axis.
    """
    mean, spread = 100 * mean, 100 * np.nan_to_num(sd)
    decimals = 1 if len(mean) <= 12 else 0
    with matplotlib.rc_context(_STYLE):
        figure, axes = _bar_axes(len(mean), 3.0)
        axes.bar(np.arange(len(mean)), np.nan_to_num(mean), 0.7, color=PALETTE[0])
        for i in range(len(mean)):
            if spread[i] > 0:
                axes.errorbar(
                    i, mean[i], spread[i], ecolor=_INK, elinewidth=1, capsize=2.5
                )
            down = mean[i] < 0
            axes.annotate(
                written(mean[i], decimals),
                (i, np.nan_to_num(mean[i]) + (-1 if down else 1) * spread[i]),
                xytext=(0, -2 if down else 2),
                textcoords="offset points",
                ha="center",
                va="top" if down else "bottom",
                fontsize=7.5,
            )
        axes.axhline(0, color=_INK, linewidth=0.7)
        axes.spines["bottom"].set_visible(False)
        axes.margins(y=0.1)
        if not np.abs(np.nan_to_num(mean)).max() > 0:
            axes.set_ylim(-1, 1)
        axes.tick_params(axis="x", length=0)
        axes.set(xlabel="experience", ylabel=f"{label}, %")
        return _svg(figure)


def memory_composition(counts: Array, classes: Sequence[str]) -> str:
    """Stacked bars: rows of each class in memory after each training experience.

    :param counts: shape (training experiences, classes).
    :param classes: names of the classes, in the order of the stack.
    """
    # Without the ends, of which one vanishes on black and the other on white paper.
    colours = _SCALE(np.linspace(0.1, 0.96, max(len(classes), 2)))
    base = np.cumsum(counts, axis=1) - counts
    with matplotlib.rc_context(_STYLE):
        figure, axes = _bar_axes(len(counts), 3.4, legend=0.9)
        for c in range(len(classes)):
            (time,) = counts[:, c].nonzero()
            height, bottom = counts[time, c], base[time, c]
            edge = _PAPER if len(classes) <= 20 else colours[c]
            axes.bar(
                time,
                height,
                0.78,
                bottom,
                color=colours[c],
                edgecolor=edge,
                linewidth=0.4,
                clip_on=False,  # a clip path a bar would be half of the figure's size
            )
        axes.set(xlabel="after training on experience", ylabel="rows in memory")
        step = -(-len(classes) // 20)  # a long legend names every step-th class
        shown = range(0, len(classes), step)[
            ::-1
        ]  # as the stack: the first at the foot
        handles = [Patch(facecolor=colours[c]) for c in shown]
        _legend(axes, handles, [classes[c] for c in shown], "class", handlelength=1)
        return _svg(figure)


def comparison(curves: Sequence[tuple[Array, Array]]) -> str:
    """Average accuracy over the experiences seen, one line a run.

    A run of a single row (all data at once) is a level line. The legend is the page's,
    in the styles of :func:`line_style`.

    :param curves: (mean, sd) of each run, each of shape (training experiences,).
    """
    length = max(len(mean) for mean, _ in curves)
    with matplotlib.rc_context(_STYLE):
        figure = Figure((7.6, 3.6))
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot()
        for index, (mean, sd) in enumerate(curves):
            colour, dashes = line_style(index)
            level = len(mean) == 1 and length > 1
            repeat = length if level else 1
            mean, sd = np.repeat(100 * mean, repeat), np.repeat(100 * sd, repeat)
            _band(axes, mean, sd, colour)
            (line,) = axes.plot(mean, color=colour, linewidth=1.8)
            if not level:
                line.set(marker="o", markersize=3.5)
            if dashes:
                line.set_dashes([float(dash) for dash in dashes.split()])
        _percent_axis(axes)
        axes.set_ylabel("average accuracy, %")
        _count_axis(axes, length)
        axes.set_xlabel("after training on experience")
        return _svg(figure)


def _small_multiples(mean: Array, sd: Array, seen: Array) -> Figure:
    across = 5 if mean.shape[1] <= 25 else 10
    down = -(-mean.shape[1] // across)
    figure = Figure((9.0, 1.1 * down + 0.4))
    figure.set_layout_engine("constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for i, axes in enumerate(panels.flat):
        if i >= mean.shape[1]:
            axes.set_axis_off()
            continue
        axes.plot(seen, color=_INK, alpha=0.45, linewidth=0.8)
        _course(axes, mean[:, i], sd[:, i], i, PALETTE[0], markersize=0)
        axes.set_title(f"experience {i}" if across == 5 else str(i), pad=2, loc="left")
        _percent_axis(axes, 50)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.tick_params(labelsize=7.5, length=2)
    figure.supxlabel("after training on experience", fontsize=9)
    figure.supylabel("accuracy, %", fontsize=9)
    return figure


def _course(
    axes: Axes,
    mean: Array,
    sd: Array,
    own: int,
    colour: str | None = None,
    markersize: float = 3.5,
) -> Line2D:
    """Draw the accuracy of experience ``own`` over time; return the line."""
    colour = colour or PALETTE[own]
    # Before its own training an experience is only dotted: transfer, not yet memory.
    axes.plot(mean[:own], color=colour, linewidth=0.9, dashes=(1, 2))
    learnt = np.where(np.arange(len(mean)) >= own, mean, np.nan)
    _band(axes, learnt, sd, colour)
    if (~np.isnan(learnt)).sum() == 1:  # a single point is no line: only its mark shows
        markersize = 3.5
    (line,) = axes.plot(
        learnt, color=colour, linewidth=1.7, marker="o", markersize=markersize
    )
    return line


def _band(axes: Axes, mean: Array, sd: Array, colour: str) -> None:
    if np.isnan(mean + sd).all():
        return
    low, high = np.clip(mean - sd, 0, 100), np.clip(mean + sd, 0, 100)
    axes.fill_between(
        np.arange(len(mean)), low, high, color=colour, alpha=0.18, linewidth=0
    )


def _bar_axes(count: int, height: float, legend: float = 0.0) -> tuple[Figure, Axes]:
    figure = Figure((min(8.2, max(3.6, 0.42 * count + 1.2)) + legend, height))
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    axes.set_xticks(*_counted(count))
    axes.set_xlim(-0.6, count - 0.4)
    axes.grid(axis="y")
    return figure, axes


def _legend(
    axes: Axes, handles: list[Any], names: list[str], title: str, **options: float
) -> None:
    many = len(names) > 12
    legend = axes.legend(
        handles,
        [""] * len(names),
        title=title,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        alignment="left",
        labelspacing=0.05 if many else 0.4,
        fontsize=7 if many else 8,
        **options,
    )
    # Written afterwards: matplotlib takes a leading underscore for "leave this one out".
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)


def _write_cells(axes: Axes, percent: Array) -> None:
    wide = percent.shape[1] <= 10
    for (row, column), value in np.ndenumerate(percent):
        axes.text(
            column + 0.5,
            row + 0.5,
            written(value, 1 if wide else 0),
            color=_on(value / 100),
            ha="center",
            va="center",
            fontsize=8 if wide else 7,
        )


def _on(value: float) -> str:
    """The colour that is legible on a cell of this value; an empty one is paper."""
    if np.isnan(value):
        return _INK
    red, green, blue, _ = _SCALE(value)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.52 else "white"


def _counted(count: int, centre: float = 0.0) -> tuple[Array, list[str]]:
    """Ticks and labels of experiences: all where they fit, else round ones."""
    step = 1 if count <= _NUMBERED else 5 * -(-count // 100)
    ticks: Array = np.arange(0, count, step, dtype=np.float64)
    return ticks + centre, [f"{tick:.0f}" for tick in ticks]


def _count_axis(axes: Axes, count: int) -> None:
    axes.set_xticks(*_counted(count))
    axes.set_xlim(-0.15, max(count - 0.85, 0.15))


def _percent_axis(axes: Axes, step: int = 20) -> None:
    axes.set_ylim(-2, 102)  # a line at 0 or 100 keeps its width
    axes.set_yticks(range(0, 101, step))
    axes.grid(axis="y")


def _mean(values: Array) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def drawn(size: tuple[float, float], paint: Callable[[Figure], None]) -> str:
    """What ``paint`` draws on a figure of this size in inches, in the style of all."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(size)
        figure.set_layout_engine("constrained")
        paint(figure)
        return _svg(figure)


def _svg(figure: Figure) -> str:
    """The figure as an SVG element that shares a page with others."""
    stream = io.StringIO()
    figure.savefig(
        stream, format="svg", transparent=True, bbox_inches="tight", pad_inches=0.04
    )
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    # Inside HTML the namespaces are known, and the metadata would be the only addresses.
    # Its style sheet would apply to the whole page.
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r'\s+(xmlns(:\w+)?|version)="[^"]*"', "", text)
    text = re.sub(r'<g id="[^"]*"', "<g", text).replace("xlink:href", "href")
    # Names are unique within one figure only.
    name = "f" + hashlib.sha256(text.encode()).hexdigest()[:8]
    text = re.sub(r'(\sid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    # A hundredth of a point is finer than any screen, and half the size.
    text = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), text)
    text = re.sub(r"\n\s*", "\n", text)
    return text.replace(_INK, "currentColor").replace(_PAPER, "var(--paper)")
