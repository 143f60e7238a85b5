"""The one mean and standard deviation of all that is printed, shown and judged."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def mean_and_sd(values: ArrayLike) -> tuple[Array, Array]:
    """Mean and sample standard deviation (``n − 1``) over the first axis, without NaN.

    :param values: shape ``(n, …)``; NaN where there is none.
    :return: the mean (NaN where no value is) and the standard deviation (NaN where
        fewer than two values are), of the shape of ``values[0]``.
    """
    array = np.asarray(values, dtype=np.float64)
    count = (~np.isnan(array)).sum(axis=0)
    mean = np.nansum(array, axis=0) / np.where(count > 0, count, np.nan)
    squares = np.nansum((array - mean) ** 2, axis=0)
    return mean, np.sqrt(squares / np.where(count > 1, count - 1, np.nan))
