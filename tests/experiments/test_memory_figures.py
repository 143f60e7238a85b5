"""experiments/memory_figures.py: panels that hold what they are given, and strips."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from experiments import memory_figures
from experiments.memory_figures import quantile_panels, strip


def bands(steps, scale=1.0):
    """Quantiles that grow over time."""
    return scale * np.arange(7.0) * np.arange(1, steps + 1)[:, None]


@pytest.mark.parametrize("count", [1, 2, 4, 5, 9])
@pytest.mark.parametrize("sizes", [False, True])
def test_a_panel_for_each_quantity(count, sizes):
    panels = [(f"<{i}>", bands(3, 10.0**i)) for i in range(count)]
    effective = np.array([[10, 2.5], [20, 3.5], [20, np.nan]]) if sizes else None
    svg = quantile_panels(panels, effective)
    for name, _ in panels:
        assert svg.count(f"&lt;{name[1:-1]}&gt;<") == 1
    assert ("effective sample size" in svg) == sizes
    assert "nan" not in svg


def painted(monkeypatch, quantiles):
    """The axes of a panel."""
    kept = []

    def drawn(size, paint):
        figure = Figure(size)
        paint(figure)
        kept.extend(figure.axes)
        return ""

    monkeypatch.setattr(memory_figures, "drawn", drawn)
    quantile_panels([("name", quantiles)])
    (axes,) = kept
    return axes


def test_bands_are_those_given(monkeypatch):
    quantiles = bands(4)
    axes = painted(monkeypatch, quantiles)
    low, high, median = (line.get_ydata() for line in axes.lines)
    for line, column in ((low, 0), (median, 3), (high, 6)):
        np.testing.assert_array_equal(line, quantiles[:, column])
    for area, columns in zip(axes.collections, [(1, 5), (2, 4)], strict=True):
        corners = {tuple(point) for point in area.get_paths()[0].vertices}
        for t in range(4):
            assert {(t, quantiles[t, c]) for c in columns} <= corners


def test_a_row_far_out_does_not_press_the_bands_flat(monkeypatch):
    quantiles = np.tile([-1000.0, 0, 1, 2, 3, 4, 1000], (3, 1))
    bottom, top = painted(monkeypatch, quantiles).get_ylim()
    assert -5 < bottom < 0 < 4 < top < 9
    near = np.tile([-0.5, 0, 1, 2, 3, 4, 5.0], (3, 1))
    bottom, top = painted(monkeypatch, near).get_ylim()
    assert -1 < bottom < -0.5 < 5 < top < 5.5
    bottom, top = painted(monkeypatch, np.full((3, 7), 2.0)).get_ylim()
    assert bottom < 2 < top


@pytest.mark.parametrize("steps", [1, 2, 40])
def test_few_and_many_experiences(monkeypatch, steps):
    axes = painted(monkeypatch, bands(steps))
    ticks = [t for t in axes.get_xticks() if 0 <= t < steps]
    assert 1 <= len(ticks) <= 7
    assert all(t == round(t) for t in ticks)
    spread = np.ptp(axes.collections[0].get_paths()[0].vertices[:, 0])
    assert spread == (steps - 1 if steps > 1 else pytest.approx(0.2))


def test_what_is_undefined_leaves_a_gap():
    quantiles = bands(3)
    quantiles[1] = np.nan
    assert "nan" not in quantile_panels([("some", quantiles)])
    assert "nan" not in quantile_panels([("none", np.full((2, 7), np.nan))])


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("n", "across"), [(1, 5), (5, 5), (7, 3)])
def test_images_in_lines_pixel_by_pixel(channels, n, across):
    draw = np.random.default_rng(n)
    images = draw.integers(0, 256, (n, channels, 3, 4), dtype=np.uint8)
    if channels == 4:  # colours that nobody sees need not be kept
        images[:, 3] = 255
    picture = Image.open(io.BytesIO(strip(images, across)))
    down, across = -(-n // across), min(n, across)
    assert picture.size == (5 * across - 1, 4 * down - 1)
    pixels = np.array(picture.convert("RGBA"))
    seen = np.zeros(pixels.shape[:2], dtype=bool)
    for i, image in enumerate(images):
        top, left = 4 * (i // across), 5 * (i % across)
        place = pixels[top : top + 3, left : left + 4]
        colours = np.repeat(image, 3, axis=0) if channels == 1 else image[:3]
        np.testing.assert_array_equal(place[..., :3], colours.transpose(1, 2, 0))
        assert (place[..., 3] == 255).all()
        seen[top : top + 3, left : left + 4] = True
    assert (pixels[~seen][:, 3] == 0).all()
