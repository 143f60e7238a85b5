"""avalanche_ext/threshold.py: what is set to zero, and what that loses."""

import pytest
import torch

from avalanche_ext.threshold import quantiles_said, thresholded

FISHER = {"a": torch.tensor([[1.0, 0.0], [3.0, 8.0]]), "b": torch.tensor([4.0, 8.0])}


@pytest.mark.parametrize(
    ("threshold", "unit", "a", "b", "lost"),
    [
        (0.0, "mean", [[1, 0], [3, 8]], [4, 8], 0),
        (0.5, "mean", [[0, 0], [3, 8]], [4, 8], 1 / 24),  # the mean is 4
        (1.0, "mean", [[0, 0], [0, 8]], [4, 8], 4 / 24),
        (1.0, "absolute", [[1, 0], [3, 8]], [4, 8], 0),
        (4.5, "absolute", [[0, 0], [0, 8]], [0, 8], 8 / 24),
        (9.0, "absolute", [[0, 0], [0, 0]], [0, 0], 1),
    ],
)
def test_entries_below_the_threshold(threshold, unit, a, b, lost):
    before = {name: values.clone() for name, values in FISHER.items()}
    kept, share = thresholded(FISHER, threshold, unit)
    assert kept["a"].tolist() == a
    assert kept["b"].tolist() == b
    assert share == pytest.approx(lost)
    assert all(torch.equal(FISHER[name], before[name]) for name in FISHER)


def test_nothing_is_lost_of_nothing():
    assert thresholded({"a": torch.zeros(3)}, 1.0, "absolute")[1] == 0


def test_quantiles_in_words():
    said = quantiles_said({"a": torch.arange(101.0)})
    assert said == (
        "quantiles are 5% 5.0e+00, 50% 5.0e+01, 95% 9.5e+01, 99% 9.9e+01, its largest "
        "entry 1.0e+02 and their mean 5.0e+01"
    )
