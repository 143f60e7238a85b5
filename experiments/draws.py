"""Random numbers of a stream: of the seed alone, whatever the method draws."""

from typing import Literal, get_args

import numpy as np

Purpose = Literal["pixels", "samples", "noise", "validation", "order"]
"""What is drawn. Each has numbers of its own, so that one more changes no other."""


def generator(seed: int, purpose: Purpose, experience: int = 0) -> np.random.Generator:
    """The numbers of one purpose and one experience.

    :param seed: the run's.
    :param experience: 0, 1, …; draws do not depend on how many there are.
    """
    return np.random.default_rng((seed, get_args(Purpose).index(purpose), experience))
