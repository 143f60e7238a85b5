"""experiments/pixel_maps.py: against torchvision's rotation, and a loop of pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import functional

from experiments.pixel_maps import apply_map, pixel_maps, rotation_map


def images(n, *shape):
    return np.random.default_rng(n).integers(1, 256, (n, *shape), dtype=np.uint8)


def mapped(x, pixel_map):
    out = np.full_like(x, 7)
    apply_map(x, pixel_map, out)
    return out


@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.one_of(
        st.floats(0, 180), st.sampled_from([0.0, 1e-9, 45.0, 90.0, 179.999, 180.0])
    ),
)
def test_a_rotation_is_torchvisions(height, width, angle):
    x = images(2, 1, height, width)
    found = mapped(x, rotation_map(height, width, angle))
    for image, row in zip(x, found, strict=True):
        expected = functional.rotate(Image.fromarray(image[0]), angle)
        np.testing.assert_array_equal(row[0], np.asarray(expected))


@pytest.mark.parametrize("angle", np.linspace(0, 180, 19) + 0.37)
def test_a_rotation_of_mnists_size_is_torchvisions(angle):
    x = images(1, 1, 28, 28)
    expected = functional.rotate(Image.fromarray(x[0, 0]), angle)
    found = mapped(x, rotation_map(28, 28, angle))
    np.testing.assert_array_equal(found[0, 0], np.asarray(expected))


def test_a_map_is_a_gather_of_pixels_in_every_channel():
    x = images(3, 2, 4, 5)
    pixel_map = np.random.default_rng(0).integers(-1, 20, 20)
    assert (pixel_map < 0).any()
    found = mapped(x, pixel_map)
    for i, c, p in np.ndindex(3, 2, 20):
        old = 0 if pixel_map[p] < 0 else x[i, c].flat[pixel_map[p]]
        assert found[i, c].flat[p] == old


def test_permutations_move_all_pixels_of_every_experience():
    maps = pixel_maps("permuted", (1, 28, 28), 3, seed=0)
    for one in maps:
        assert sorted(one) == list(range(784))
        assert (one == np.arange(784)).sum() < 10
    assert len({one.tobytes() for one in maps}) == 3


def test_angles_are_uniform_on_half_a_turn():
    """A map is one of as many angles, so the angle can be found again."""
    found = []
    for seed in range(40):
        (one,) = pixel_maps("rotated", (1, 28, 28), 1, seed)
        fits = [np.mean(one != rotation_map(28, 28, a)) for a in range(0, 181, 3)]
        found.append(3 * int(np.argmin(fits)))
    assert 70 < np.mean(found) < 110
    assert min(found) < 25
    assert max(found) > 155


def angle_of(pixel_map):
    """The angle of a map of 28 x 28 pixels, to half a degree."""
    angles = np.arange(0, 180.5, 0.5)
    return angles[
        np.argmin([np.mean(pixel_map != rotation_map(28, 28, a)) for a in angles])
    ]


def test_rising_angles_are_one_of_each_part():
    found = []
    for seed in range(5):
        maps = pixel_maps("rising", (1, 28, 28), 6, seed)
        found.append([angle_of(one) / 30 for one in maps])
    inside = np.array(found) - np.arange(6)
    assert inside.min() > -0.03
    assert inside.max() < 1.03
    assert 0.35 < inside.mean() < 0.65
    assert inside.std() > 0.2


@pytest.mark.parametrize("pixels", ["permuted", "rotated"])
def test_the_seed_decides_the_maps(pixels):
    one, same, more, other = (
        pixel_maps(pixels, (1, 9, 9), n, seed)
        for n, seed in [(2, 3), (2, 3), (5, 3), (2, 4)]
    )
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(one, more[:2])
    assert not np.array_equal(one[0], other[0])
    assert not np.array_equal(one[0], one[1])


def test_the_same_pixels_need_no_map():
    assert pixel_maps("same", (7,), 4, 0) is None
