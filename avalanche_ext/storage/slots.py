"""Which rows move when others are removed, so that slots stay without a gap."""

from collections.abc import Iterable


def moves(slots: Iterable[int], length: int) -> dict[int, int]:
    """Old slot → new slot of the rows that fill the holes: the last ones, in order.

    >>> moves([1, 2], 5)
    {3: 1, 4: 2}

    :param slots: that are emptied.
    :param length: rows held before, at slots ``0 … length − 1``.
    :raises ValueError: for a slot without a row.
    """
    gone = set(slots)
    if gone and not 0 <= min(gone) <= max(gone) < length:
        raise ValueError(f"rows {sorted(gone)} are not all among the {length} held")
    left = length - len(gone)
    movers = [slot for slot in range(left, length) if slot not in gone]
    holes = sorted(slot for slot in gone if slot < left)
    return dict(zip(movers, holes, strict=True))
