"""Importances below a threshold, set to zero; and what is lost by it."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

ThresholdUnit = Literal["mean", "absolute"]
"""Whether a threshold is a multiple of the mean over all entries, or a value."""

_SAID = (0.05, 0.5, 0.95, 0.99)


def thresholded(
    importance: Mapping[str, Tensor], threshold: float, unit: ThresholdUnit = "mean"
) -> tuple[dict[str, Tensor], float]:
    """Importances with entries below the threshold set to zero.

    >>> thresholded({"weight": torch.tensor([1.0, 3.0, 4.0, 8.0])}, 0.5)
    ({'weight': tensor([0., 3., 4., 8.])}, 0.0625)

    :param importance: by parameter, none below 0.
    :return: new tensors (the same ones for threshold 0), and the share of the sum of all
        entries that was set to zero.
    """
    if not threshold:
        return dict(importance), 0.0
    total = _sum(importance)
    entries = sum(values.numel() for values in importance.values())
    least = threshold * total / entries if unit == "mean" else threshold
    kept = {n: torch.where(v < least, 0.0, v) for n, v in importance.items()}
    if not any(bool(values.any()) for values in kept.values()):
        return kept, 1.0 if total else 0.0
    return kept, max(0.0, 1 - _sum(kept) / total)


def mass_lost_said(importance: Mapping[str, Tensor], lost: float) -> str:
    """What a threshold takes, as the rest of a sentence.

    :param lost: the share of the sum of all entries.
    """
    if lost == 1:
        return (
            "sets the whole Fisher information to zero, whose "
            f"{quantiles_said(importance)}: use a lower one"
        )
    return (
        f"takes {lost:.1%} of the Fisher information, whose "
        f"{quantiles_said(importance)}: a lower one keeps more of it"
    )


def quantiles_said(importance: Mapping[str, Tensor]) -> str:
    """Some quantiles of all entries and the largest one, as part of a sentence."""
    flat = torch.cat([values.flatten().cpu() for values in importance.values()])
    ordered = flat.sort().values
    said = [
        f"{share:.0%} {ordered[int(share * (len(ordered) - 1))].item():.1e}"
        for share in _SAID
    ]
    mean = ordered.mean(dtype=torch.float64).item()
    return (
        f"quantiles are {', '.join(said)}, its largest entry {ordered[-1].item():.1e} "
        f"and their mean {mean:.1e}"
    )


def _sum(importance: Mapping[str, Tensor]) -> float:
    return sum(float(v.sum(dtype=torch.float64)) for v in importance.values())
