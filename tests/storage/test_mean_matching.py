"""avalanche_ext/storage/mean_matching.py against the norms written out, in float64."""

import numpy as np
import pytest

from avalanche_ext.storage.mean_matching import MeanMatching


class Slow:
    """All rows of a class as lists; some of them may leave."""

    def __init__(self, others, compared, gone):
        self.held = [*others, *compared]
        self.offered = [*self.held, *gone]
        self.compared = dict(enumerate(compared))

    def leave(self):
        total, mean = sum(self.held), sum(self.offered) / len(self.offered)
        stay = len(self.held) - 1
        norms = {
            place: np.square(total - row - stay * mean).sum()
            for place, row in self.compared.items()
        }
        place = min(norms, key=norms.__getitem__)
        row = self.compared.pop(place)
        self.held = [one for one in self.held if one is not row]
        return place


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_row_whose_absence_fits_the_mean_leaves(seed, offset):
    """Rows that may not leave count too, and rows that come may join or only count."""
    draw = np.random.default_rng(seed)
    rows = (draw.normal(size=(24, 6)) + offset).astype(np.float32)
    others, compared, gone, coming = np.split(rows, [5, 11, 16])
    slow = Slow(*(list(part.astype(np.float64)) for part in (others, compared, gone)))
    held, offered = sum(slow.held), sum(slow.offered)
    centre = (offered / 16).astype(np.float32)
    extra = [held - 11 * centre.astype(float), offered - 16 * centre.astype(float)]
    given = np.concatenate((centre[None], coming, extra), dtype=np.float32)
    matching = MeanMatching(compared.copy(), given, 11, 16)
    for number, row in enumerate(coming.astype(np.float64)):
        matching.arrive(number)
        slow.offered.append(row)
        if number % 3:  # every third row leaves the class smaller
            matching.join(number)
            slow.held.append(row)
            slow.compared[6 + number] = row
        assert matching.present == len(slow.compared)
        place = matching.leave()
        assert place == slow.leave()
        left = coming[place - 6] if place >= 6 else compared[place]
        assert matching.row(place) == pytest.approx(left, rel=1e-6, abs=1e-6)
