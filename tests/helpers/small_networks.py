"""Small networks that meet the traps of layer-wise gradients, one each."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CLASSES = 4


def mlp(inputs: int = 6, width: int = 5) -> nn.Sequential:
    """Two layers, with a ReLU in place and dropout."""
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(width, CLASSES),
    )


def convolutions() -> nn.Sequential:
    """Strided, grouped, dilated and padded convolutions, normalised in two ways."""
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 8, 3, dilation=2, padding="same", padding_mode="circular"),
        nn.GroupNorm(2, 8),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(8, 2, (1, 3), stride=(2, 1), bias=False),
        nn.Flatten(),
        nn.Linear(2 * 3 * 3, CLASSES),
    )


class Sequences(nn.Module):
    """Embedding, position, linear map of every token, overwritten in place."""

    def __init__(self, padding: int | None = 0) -> None:
        super().__init__()
        self.tokens = nn.Embedding(11, 8, padding_idx=padding)
        self.position = nn.Parameter(torch.randn(1, 5, 8))
        self.shift = nn.Parameter(torch.randn(8))
        self.hidden = nn.Linear(8, 12)
        self.convolution = nn.Conv1d(12, 6, 3, padding=1)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x) + self.position
        x = torch.relu_(self.hidden(torch.sub(self.shift + x, self.shift, alpha=0.5)))
        x = torch.relu_(self.convolution(x.transpose(1, 2)))
        out: Tensor = self.head(self.norm(x.transpose(1, 2)).mean(1))
        return out


class Added(nn.Module):
    """Parameters that are added: a scalar, a vector, one for each place, scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6, bias=False)
        self.scalar = nn.Parameter(torch.randn(()))
        self.vector = nn.Parameter(torch.randn(6))
        self.column = nn.Parameter(torch.randn(2, 1))
        self.place = nn.Parameter(torch.randn(1, 2, 3))
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x) + self.scalar + self.vector)
        x = torch.add(x.view(-1, 2, 3), self.place, alpha=2).tanh()
        out: Tensor = self.head((self.column + x).flatten(1))
        return out


class Twice(nn.Module):
    """A layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.layer(torch.tanh(self.layer(x)))))
        return out


class Tied(nn.Module):
    """A weight that is used again without its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.layer(x))
        return F.linear(hidden @ self.layer.weight, self.layer.weight)


class SharedParameter(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))
        return out


class OwnForward(nn.Linear):
    """A linear layer that does something else."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.square(), self.bias)


class Residual(nn.Module):
    """A normalisation layer's output is added to in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.first(x))
        out += x
        out = out.relu_()[:, :, ::2]
        result: Tensor = self.head(out.amax((2, 3)))
        return result


class ChangedInput(nn.Module):
    """A layer whose input is overwritten after it was used; its weight is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight.requires_grad_(False)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        side = self.second(hidden)
        out: Tensor = self.head(torch.tanh(side) + hidden.mul_(2))
        return out


class PlacesFirst(nn.Module):
    """Rows are the second dimension, and only the first place is read."""

    def __init__(self, places: int = 5) -> None:
        super().__init__()
        self.places = places
        self.layer = nn.Linear(6, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, None] * torch.arange(1, self.places + 1)[:, None]
        out: Tensor = self.head(torch.tanh(self.layer(x.transpose(0, 1)))[0])
        return out


class Tokens(nn.Module):
    """All tokens of all rows in one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.layer(x.reshape(-1, 3)))
        out: Tensor = self.head(hidden.view(len(x), 6))
        return out


class Flipped(nn.Module):
    """A layer that gets the rows in reverse."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.layer(x.flip(0))).flip(0))
        return out


class Centred(nn.Module):
    """Each row depends on all others."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x - x.mean(0) / 2)
        return out


class Experts(nn.Module):
    """Rows go to one of two layers by their own values, in an order of their own."""

    def __init__(self, order: bool = False) -> None:
        super().__init__()
        self.order = order
        self.first = nn.Linear(6, 6)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, CLASSES))
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x))
        out = hidden.new_zeros(len(x), CLASSES)
        for number, expert in enumerate(self.experts):
            mine = (x[:, 0] > 0) == bool(number)
            if self.order:
                index = mine.nonzero()[:, 0]
                index = index[x[index, 1].argsort()]
                out = out.index_put((index,), expert(hidden.index_select(0, index)))
            else:
                out[mine] = expert(hidden[mine])
        return out


class Checkpointed(nn.Module):
    """Activations that are computed again in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = checkpoint(self.first, x, use_reentrant=False)
        out: Tensor = self.head(torch.tanh(hidden))
        return out


class Attention(nn.Module):
    """A transformer's layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.layer(x).mean(1))
        return out


class Recurrent(nn.Module):
    """A recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(8, 6, batch_first=True)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.layer(x)[0][:, -1])
        return out


class Pair(nn.Module):
    """Nested inputs: a dictionary of an image and numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Linear(4, 3)
        self.numbers = nn.Linear(2, 3)
        self.head = nn.Linear(3, CLASSES)

    def forward(self, x: dict[str, Any]) -> Tensor:
        image = self.image(x["image"].flatten(1))
        out: Tensor = self.head(torch.tanh(image) * self.numbers(x["numbers"]))
        return out


def normalised() -> nn.Sequential:
    """Batch norm without running statistics, between layers."""
    return nn.Sequential(
        nn.Linear(6, 6),
        nn.GroupNorm(1, 6),
        nn.Unflatten(1, (3, 2)),
        nn.BatchNorm1d(3, track_running_stats=False),
        nn.Flatten(),
        nn.Linear(6, CLASSES),
    )
