"""experiments/draws.py: what is drawn depends on seed, purpose and experience alone."""

from typing import get_args

from experiments.draws import Purpose, generator


def test_each_seed_purpose_and_experience_has_numbers_of_its_own():
    def numbers(*of):
        return tuple(generator(*of).integers(0, 2**60, 3))

    kinds = [(s, p, t) for s in (0, 1) for p in get_args(Purpose) for t in (0, 1)]
    drawn = [numbers(*kind) for kind in kinds]
    assert len(set(drawn)) == len(kinds)
    assert drawn == [numbers(*kind) for kind in reversed(kinds)][::-1]
