"""Data sets of torchvision's that cannot be read: what is wrong with their files."""

import math
from pathlib import Path


def damage(folder: Path) -> str:
    """What is wrong with a folder that torchvision cannot read, naming files of MNIST's
    form whose size is not what they tell; empty where there is nothing to be read.

    :param folder: where torchvision keeps the files.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    if not files:
        return ""
    odd = [path for path in files if path.name.endswith("ubyte") and not _whole(path)]
    if odd:
        return f"{', '.join(map(str, odd))} cut short or damaged"
    return f"the files in {folder} incomplete or damaged"


def _whole(path: Path) -> bool:
    """An idx file: a byte that numbers its dimensions is its fourth, their lengths follow
    in four bytes each, then its bytes."""
    with path.open("rb") as file:
        head = file.read(64)
    if len(head) < 4 or len(head) < 4 + 4 * head[3]:
        return False
    lengths = [
        int.from_bytes(head[4 * i : 4 * i + 4], "big") for i in range(1, head[3] + 1)
    ]
    return path.stat().st_size == 4 + 4 * len(lengths) + math.prod(lengths)
