"""The networks: layers that make features, and one head or one head a task."""

import math
from collections.abc import Sequence

import torch
from avalanche.models import IncrementalClassifier, MultiHeadClassifier, MultiTaskModule
from torch import Tensor, nn


def layers(shape: Sequence[int], hidden: Sequence[int]) -> tuple[nn.Sequential, int]:
    """Fully connected layers with ReLU on flat inputs, and the size of their output."""
    steps: list[nn.Module] = [nn.Flatten()]
    size = math.prod(shape)
    for width in hidden:
        steps += [nn.Linear(size, width), nn.ReLU()]
        size = width
    return nn.Sequential(*steps), size


def convolutions(
    shape: Sequence[int], hidden: Sequence[int]
) -> tuple[nn.Sequential, int]:
    """Two blocks ``convolution 3×3, ReLU, max-pool 2×2`` of 32 and 64 filters, then
    :func:`layers`.

    :param shape: ``(channels, height, width)``, 4×4 or larger.
    """
    channels, height, width = shape
    steps: list[nn.Module] = []
    for filters in (32, 64):
        steps += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()]
        steps.append(nn.MaxPool2d(2))
        channels, height, width = filters, height // 2, width // 2
    top, size = layers((channels, height, width), hidden)
    return nn.Sequential(*steps, *top), size


class ResidualBlock(nn.Module):
    """``relu(x + bn(conv(relu(bn(conv(x))))))`` with 3×3 convolutions.

    Where the size changes, ``x`` passes through a 1×1 convolution with batch norm.

    :param stride: of the first convolution.
    """

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, filters, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
            nn.Conv2d(filters, filters, 3, padding=1, bias=False),
            nn.BatchNorm2d(filters),
        )
        self.shortcut = nn.Sequential()
        if stride > 1 or channels != filters:
            self.shortcut.append(nn.Conv2d(channels, filters, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(filters))

    def forward(self, x: Tensor) -> Tensor:
        """Features, shape ``(n, filters, height / stride, width / stride)``."""
        return torch.relu(self.shortcut(x) + self.residual(x))


def residual_blocks(shape: Sequence[int], base: int = 20) -> tuple[nn.Sequential, int]:
    """The reduced ResNet-18 of continual learning, without its head.

    A 3×3 convolution of stride 1, four stages of two residual blocks with ``base``,
    2, 4 and 8 times ``base`` filters, each stage after the first at half the size, and
    the average over all places. With 10 outputs on 32×32 colour images it has 1.09
    million parameters.

    K. He et al., Deep residual learning for image recognition, CVPR 2016; reduced by
    D. Lopez-Paz and M. Ranzato, Gradient episodic memory for continual learning,
    NeurIPS 2017.

    :param shape: ``(channels, height, width)``.
    """
    steps: list[nn.Module] = [
        nn.Conv2d(shape[0], base, 3, padding=1, bias=False),
        nn.BatchNorm2d(base),
        nn.ReLU(),
    ]
    channels = base
    for stage in range(4):
        filters = base * 2**stage
        steps.append(ResidualBlock(channels, filters, 2 if stage else 1))
        steps.append(ResidualBlock(filters, filters, 1))
        channels = filters
    return nn.Sequential(*steps, nn.AdaptiveAvgPool2d(1), nn.Flatten()), channels


class SingleHead(nn.Module):
    """Features and one linear head for all classes.

    :param features: makes a row of ``size`` numbers of each input.
    :param seen: whether only outputs of classes that were trained on are active. The
        others are −1000 whatever the weights, which get no gradient. All weights exist
        from the start, so that the seed alone decides them.
    """

    def __init__(
        self, features: nn.Module, size: int, outputs: int, seen: bool = False
    ) -> None:
        super().__init__()
        self.features = features
        self.classifier = (
            IncrementalClassifier(size, outputs) if seen else nn.Linear(size, outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape ``(n, outputs)``."""
        logits: Tensor = self.classifier(self.features(x))
        return logits


class MultiHead(MultiTaskModule):
    """Features and a head of its own for each task.

    All heads exist from the start, so that the seed alone decides their weights and
    tasks not met yet can be evaluated; a head without rows in a batch gets no
    gradient. Rows of several tasks may share a batch.

    :param features: makes a row of ``size`` numbers of each input.
    :param outputs: outputs of each head.
    :param heads: number of tasks.
    """

    def __init__(
        self, features: nn.Module, size: int, outputs: int, heads: int
    ) -> None:
        super().__init__()
        self.features = features
        # Masking unused outputs is refused upstream for experiences of several tasks.
        self.classifier = MultiHeadClassifier(size, outputs, masking=False)
        for task in range(1, heads):
            self.classifier.classifiers[str(task)] = IncrementalClassifier(
                size, outputs, masking=False, auto_adapt=False
            )

    def forward(self, x: Tensor, task_labels: Tensor) -> Tensor:
        """Logits of each row's own head, shape ``(n, outputs)``."""
        logits: Tensor = self.classifier(self.features(x), task_labels)
        return logits


def xavier(model: nn.Module) -> None:
    """Xavier-uniform weights and zero biases for every linear layer, in order."""
    for layer in _linear_layers(model):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)


def truncated_normal(model: nn.Module) -> None:
    """Normal weights of sd 0.1, those beyond ±0.2 drawn anew, and biases of 0.1, for
    every linear layer, in order.

    A. Chaudhry et al., Efficient lifelong learning with A-GEM, ICLR 2019, in the
    authors' code.
    """
    for layer in _linear_layers(model):
        nn.init.trunc_normal_(layer.weight, std=0.1, a=-0.2, b=0.2)
        nn.init.constant_(layer.bias, 0.1)


def _linear_layers(model: nn.Module) -> list[nn.Linear]:
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


def zero(head: nn.Module) -> None:
    """Zero weights and biases."""
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
