"""What a memory's criteria say of its rows, and who leaves: one row at a time, float64."""

import copy
import math
from collections import Counter

import torch
from torch import nn
from torch.nn.functional import cross_entropy


class Reader(nn.Module):
    """A small model of the rows of ``memories.inputs``, whose features lie far apart."""

    def __init__(self, seed, classes=4):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, classes)
        for parameter in self.parameters():
            parameter.data.copy_(torch.randn(parameter.shape, generator=draw))
        self.register_buffer("places", torch.randn(1024, 6, generator=draw))

    def forward(self, x):
        number = (2 * x["more"]["feature"][:, 0]).long()
        return self.last(torch.tanh(self.first(self.places[number])))

    def features(self, x):
        """The input of the last layer."""
        kept = []
        handle = self.last.register_forward_pre_hook(lambda _, args: kept.extend(args))
        self(x)
        handle.remove()
        return kept[0]


def alone(model, x, y):
    """Loss, gradient norm, entropy and features of one row, which is the whole batch."""
    model = copy.deepcopy(model).double().eval()
    output = model(x)
    loss = cross_entropy(output, y)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    output, loss = output.detach(), loss.detach()
    squares = sum(float(gradient.square().sum()) for gradient in gradients)
    chances = output.softmax(1)[0].tolist()
    return {
        "loss": float(loss),
        "gradient": math.sqrt(squares),
        "uncertainty": -sum(p * math.log(p) for p in chances if p),
        "feature": model.features(x)[0].tolist(),
    }


def distance(feature, others):
    """To the nearest of others; infinite without any."""
    return min((math.dist(feature, other) for other in others), default=math.inf)


def energy(feature, others, beta=10.0):
    """``−1/β ln mean exp(β cos)`` over others; 0 without any."""
    if not others:
        return 0.0
    terms = [math.exp(beta * cosine(feature, other)) for other in others]
    return -math.log(sum(terms) / len(terms)) / beta


def cosine(one, other):
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / (math.hypot(*one) * math.hypot(*other))  # alike either way round


def ages(arrivals, seen, tau=1000.0):
    """``1 − exp(−age/τ)``."""
    return [1 - math.exp((arrival - seen) / tau) for arrival in arrivals]


def accesses(rows, draws):
    """Uses per draw since admission; the median of these for rows that met no draw."""
    rates = [r["uses"] / (draws - r["drawn"]) for r in rows if r["drawn"] < draws]
    middle = _median(rates) if rates else 0.0
    return [
        r["uses"] / (draws - r["drawn"]) if r["drawn"] < draws else middle for r in rows
    ]


def _median(values):
    ordered, half = sorted(values), (len(values) - 1) / 2
    return (ordered[math.floor(half)] + ordered[math.ceil(half)]) / 2


def normalised(scores):
    """On [0, 1] by the finite ones; equal ones are 0.5, infinite ones 1 or 0."""
    finite = [s for s in scores if math.isfinite(s)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    return [
        (
            float(s > 0)
            if math.isinf(s)
            else (s - low) / (high - low) if high > low else 0.5
        )
        for s in scores
    ]


def mean_of(scores, weights):
    """The weighted mean of normalised scores, by criterion."""
    used = {name: weight for name, weight in weights.items() if weight}
    parts = {name: normalised(scores[name]) for name in used}
    total = sum(used.values())
    n = len(next(iter(parts.values())))
    return [sum(used[c] * parts[c][i] for c in used) / total for i in range(n)]


def leaving(classes, values, n, met=None):
    """Who of the rows leave, one after the other.

    :param classes: of each row, in the order in which rows came.
    :param met: classes in the order in which they were met: each time the largest class
        loses its row of lowest value. ``None``: whoever has the lowest value leaves.
    """
    left, gone = list(range(len(values))), []
    for _ in range(n):
        counts = Counter(classes[i] for i in left)
        most = max(counts.values())
        own = left
        if met is not None:
            largest = next(c for c in met if counts[c] == most)
            own = [i for i in left if classes[i] == largest]
        gone.append(min(own, key=lambda i: values[i]))
        left.remove(gone[-1])
    return gone
