"""The networks, with one head or one head a task."""

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


class MLP(nn.Module):
    """``Linear, ReLU, …, Linear``: one head for all classes.

    :param shape: shape of one input, flattened here.
    :param hidden: widths of the hidden layers.
    :param outputs: number of outputs.
    """

    def __init__(
        self, shape: Sequence[int], hidden: Sequence[int], outputs: int
    ) -> None:
        super().__init__()
        self.features, size = layers(shape, hidden)
        self.classifier = nn.Linear(size, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape ``(n, outputs)``."""
        return self.classifier(self.features(x))


class MultiHeadMLP(MultiTaskModule):
    """The same layers with a head of its own for each task.

    All heads exist from the start, so that the seed alone decides their weights and
    tasks not met yet can be evaluated; a head without rows in a batch gets no
    gradient. Rows of several tasks may share a batch.

    :param shape: shape of one input, flattened here.
    :param hidden: widths of the hidden layers.
    :param outputs: outputs of each head.
    :param heads: number of tasks.
    """

    def __init__(
        self, shape: Sequence[int], hidden: Sequence[int], outputs: int, heads: int
    ) -> None:
        super().__init__()
        self.features, size = layers(shape, hidden)
        # Masking unused outputs is refused upstream for experiences of several tasks.
        self.classifier = MultiHeadClassifier(size, outputs, masking=False)
        for task in range(1, heads):
            self.classifier.classifiers[str(task)] = IncrementalClassifier(
                size, outputs, masking=False, auto_adapt=False
            )

    def forward(self, x: Tensor, task_labels: Tensor) -> Tensor:
        """Logits of each row's own head, shape ``(n, outputs)``."""
        return self.classifier(self.features(x), task_labels)


def xavier(model: nn.Module) -> None:
    """Xavier-uniform weights and zero biases for every linear layer, in order."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
