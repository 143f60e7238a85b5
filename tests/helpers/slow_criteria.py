"""What criteria compute, the plain way."""

import torch


def nearest_distances(features):
    """The distance of each row to the nearest other, from differences."""
    found = features.new_full((len(features),), torch.inf)
    for i, row in enumerate(features):
        others = torch.cat([features[:i], features[i + 1 :]])
        if len(others):
            found[i] = (others - row).norm(dim=1).min()
    return found


def k_center_loop(features, k, start=None, centers=None):
    """One distance at a time, in float64."""
    rows = features.double()
    k = min(k, len(rows))
    if start is None and centers is None:
        start = int((rows - rows.mean(0)).square().sum(1).argmin())
    nearest = [float("inf")] * len(rows)
    chosen = []

    def cover(center):
        for i, row in enumerate(rows):
            nearest[i] = min(nearest[i], float((row - center).square().sum()))

    for center in () if centers is None else centers.double():
        cover(center)
    while len(chosen) < k:
        left = [i for i in range(len(rows)) if i not in chosen]
        first = start is not None and not chosen
        chosen.append(start if first else max(left, key=nearest.__getitem__))
        cover(rows[chosen[-1]])
    return chosen
