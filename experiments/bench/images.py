"""Data as users of Avalanche have them: images that are decoded one by one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from avalanche.benchmarks import benchmark_from_datasets, with_classes_timeline
from avalanche.benchmarks.utils import TransformGroups, as_classification_dataset
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms import ToTensor

from experiments.data import Arrays


class Images(Dataset[Any]):
    """Items as torchvision's data sets give them: an image made anew, and its label.

    :param x: ``uint8``, shape ``(n, 1, height, width)``.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x = x[:, 0]
        self.targets: list[int] = y.tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.x[index]), self.targets[index]


def image_streams(arrays: Arrays, groups: Sequence[Sequence[int]]) -> Any:
    """A class-incremental benchmark of images through ``ToTensor``."""

    def stream(x: np.ndarray, y: np.ndarray) -> list[Any]:
        parts = [np.isin(y, group) for group in groups]
        return [_dataset(x[here], y[here]) for here in parts]

    return with_classes_timeline(
        benchmark_from_datasets(
            train=stream(arrays.x_train, arrays.y_train),
            test=stream(arrays.x_test, arrays.y_test),
        )
    )


def _dataset(x: np.ndarray, y: np.ndarray) -> Any:
    step = (ToTensor(), None)
    return as_classification_dataset(
        Images(x, y), transform_groups=TransformGroups({"train": step, "eval": step})
    )
