"""The numbers of a result that a report shows, and how they are written."""

import math
from dataclasses import dataclass


def written(value: float, decimals: int) -> str:
    """A number as a reader expects it: a true minus sign, "–" for NaN."""
    if math.isnan(value):
        return "–"
    # Adding zero turns the minus zero of a rounded small number into zero.
    return f"{round(float(value), decimals) + 0.0:.{decimals}f}".replace("-", "−")


@dataclass(frozen=True)
class Quantity:
    """A number of a result, how it is called and how it is written."""

    key: str
    name: str
    unit: str
    scale: float = 1.0
    decimals: int = 0
    headline: bool = False
    compared: bool = True

    def write(self, mean: float, sd: float = math.nan) -> str:
        """``mean ± sd`` in the unit; no ± without an sd, "–" without a mean."""
        text = written(self.scale * mean, self.decimals)
        if math.isnan(mean) or math.isnan(sd):
            return text
        return f"{text} ± {written(self.scale * sd, self.decimals)}"


def _percent(key: str, name: str) -> Quantity:
    return Quantity(key, name, "%", scale=100, decimals=2, headline=True)


QUANTITIES = (
    _percent("average_accuracy", "average accuracy"),
    _percent("average_accuracy_task_known", "accuracy, task known"),
    _percent("average_forgetting", "forgetting"),
    _percent("backward_transfer", "backward transfer"),
    Quantity("train_seconds", "training", "s", decimals=2, headline=True),
    Quantity("eval_seconds", "evaluation", "s", decimals=2, compared=False),
    Quantity("peak_memory_mb", "peak memory", "MB", compared=False),
    Quantity("iterations", "iterations", "steps", compared=False),
)
FIGURES = tuple(quantity.key for quantity in QUANTITIES)
"""Fields of ``result.json``."""
