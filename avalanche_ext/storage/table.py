"""A table of exemplars: rows of fixed capacity with any columns."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from avalanche_ext.arguments import whole_number
from avalanche_ext.storage.rows import Rows, count, leaves
from avalanche_ext.storage.slots import moves

Column = Any  # a tensor, or a TensorDict where the input is nested


class ExemplarTable:
    """Rows of a fixed-capacity table; the one place that writes rows.

    Columns are allocated for ``capacity`` rows when the first rows are written, with
    the dtype and shape they come with, so ``uint8`` stays ``uint8`` and a row costs
    its raw bytes. The rows held are always ``0 … len(table) − 1``. Policies decide
    slots; the table only moves rows.

    >>> table = ExemplarTable(capacity=3)
    >>> table.write(torch.tensor([0, 1]), {"x": torch.zeros(2, 4), "y": torch.tensor([5, 7])})
    >>> len(table), table.column("y").tolist()
    (2, [5, 7])

    :param capacity: the largest number of rows.
    :param device: where the columns live.
    :param directory: a folder for memory-mapped columns, for tables larger than RAM
        (one file a column; always on the host). A pickled table holds its rows, and
        writes them to that folder again when it is loaded.
    :raises ValueError: for a capacity that is not positive, a device that is not there,
        a directory that is no path or cannot be written, or one together with a device
        other than the CPU.
    """

    def __init__(
        self,
        capacity: int,
        *,
        device: torch.device | str = "cpu",
        directory: str | Path | None = None,
    ) -> None:
        self.capacity = whole_number("capacity", capacity, "rows", least=1)
        self.device = _usable(device)
        self.directory = None if directory is None else _writable(directory)
        if self.directory is not None and self.device.type != "cpu":
            raise ValueError(
                f"a memory-mapped table lives on the host, got device {self.device}: "
                "leave out the directory or the device"
            )
        self.forms = 0
        """How often the inputs held were replaced by others."""
        self._columns: dict[str, Column] = {}
        self._form: dict[str, tuple[torch.dtype, torch.Size]] = {}  # of a row
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self._columns)

    @property
    def bytes_per_row(self) -> int:
        """Bytes that one row takes, all columns together."""
        return sum(
            leaf.element_size() * leaf[:1].numel() for _, leaf in leaves(self._columns)
        )

    def column(self, name: str) -> Column:
        """The rows held of one column, as a view: shape ``(len(table), …)``."""
        if name not in self._columns:
            raise KeyError(f"no column {name!r}; the columns are {list(self._columns)}")
        return self._columns[name][: self._length]

    def write(self, slots: Tensor, rows: Mapping[str, Rows]) -> None:
        """Write ``rows`` at ``slots``.

        :param slots: distinct slots, shape ``(n,)``; those at or above ``len(table)``
            continue it without a gap.
        :param rows: one entry a column, ``n`` rows each.
        :raises ValueError: for a slot out of range or given twice, a gap, or rows whose
            columns, dtypes or shapes are not those of the table.
        """
        length = self._length_after(slots)
        if count(rows) != len(slots):
            raise ValueError(f"{count(rows)} rows for {len(slots)} slots")
        if len(slots) == 0:
            return
        self.check(rows)
        self.put(slots, rows, length)

    def put(self, slots: Tensor, rows: Mapping[str, Rows], length: int) -> None:
        """:meth:`write` without its checks, for callers that have made them.

        :param length: rows held afterwards.
        """
        if not self._columns:
            self._allocate_all(rows)
        self._length = length
        _copy(self._columns, slots, rows)

    def check(self, rows: Mapping[str, Rows], *, without: tuple[str, ...] = ()) -> None:
        """Whether ``rows`` have the form of those held; anything may be the first.

        :param without: columns that ``rows`` need not have.
        :raises ValueError: naming the column that differs.
        """
        if not self._columns:
            return
        given = dict(leaves(rows))
        if len(given) != len(self._form) - len(without) or any(
            name not in self._form for name in given
        ):
            held = sorted(set(self._form) - set(without))
            raise ValueError(
                f"rows have columns {sorted(given)}, the table holds {held}: one table "
                "keeps one structure (task labels always or never)"
            )
        for name, row in given.items():
            dtype, shape = self._form[name]
            if dtype is not row.dtype or shape != row.shape[1:]:
                raise ValueError(
                    f"column {name!r} holds rows of {dtype} {tuple(shape)}, got "
                    f"{row.dtype} {tuple(row.shape[1:])}: one table keeps one form of "
                    "row: convert these, or keep them in another"
                )

    def gather(
        self, index: Tensor, names: Iterable[str] | None = None
    ) -> dict[str, Column]:
        """Copies of the rows at ``index``, by column.

        Column by column, since indexing them as one object costs several times more.

        :param names: the columns wanted; ``None``: all.
        :raises KeyError: for a column that the table has not.
        """
        if index.device != self.device:
            index = index.to(self.device)
        columns = self._columns
        return {
            name: (
                column.index_select(0, index)
                if isinstance(column := columns[name], Tensor)
                else column[index]
            )
            for name in (columns if names is None else names)
        }

    def remove(self, index: Tensor) -> dict[int, int]:
        """Remove the rows at ``index``; the last rows move into the holes.

        :return: old slot → new slot of the rows that moved.
        """
        gone = set(index.tolist())
        moved = moves(gone, self._length)
        if moved:
            rows = self.gather(torch.tensor(list(moved)))
            _copy(self._columns, torch.tensor(list(moved.values())), rows)
        self._length -= len(gone)
        return moved

    def resize(self, capacity: int) -> None:
        """Change the capacity, keeping every row.

        :raises ValueError: when more rows are held than would fit.
        """
        if capacity < max(1, self._length):
            raise ValueError(
                f"{self._length} rows do not fit a capacity of {capacity}: "
                "remove rows first"
            )
        held = {name: self.column(name).clone() for name in self._columns}
        self.capacity = capacity
        self._fill(held)

    def set(self, slots: Tensor, rows: Mapping[str, Rows]) -> None:
        """Write some columns of the rows at ``slots``, in the form that they have.

        :raises KeyError: for a column that the table has not.
        """
        _copy({name: self._columns[name] for name in rows}, slots, rows)

    def recast(self, rows: Mapping[str, Rows]) -> None:
        """Replace columns by ``rows``, which may be of another form, or add them."""
        held = {other: _plain(self.column(other)) for other in self._columns}
        self.forms += "x" in rows
        self._fill({**held, **rows})

    def state_dict(self) -> dict[str, Any]:
        """Capacity and rows, as plain dictionaries and tensors."""
        return {
            "capacity": self.capacity,
            "forms": self.forms,
            "length": self._length,
            "columns": {name: _plain(self.column(name)) for name in self._columns},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the capacity and the rows of ``state``."""
        self.capacity = int(state["capacity"])
        self.forms = state.get("forms", 0)
        self._fill(state["columns"])

    def __getstate__(self) -> dict[str, Any]:
        """The rows, as views where a pickle would save all of them anyway."""
        return {
            "device": self.device,
            "directory": self.directory,
            "capacity": self.capacity,
            "forms": self.forms,
            "columns": {
                name: _plain(self.column(name), copy=self._length < self.capacity)
                for name in self._columns
            },
        }

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """A table that was made before stays in its place, a new one is put back."""
        place = self.__dict__ or state
        ExemplarTable.__init__(
            self,
            state["capacity"],
            device=place["device"],
            directory=place["directory"],
        )
        self.load_state_dict(state)

    def _fill(self, rows: Mapping[str, Rows]) -> None:
        self._columns, self._form, self._length = {}, {}, 0
        if rows:
            self._allocate_all(rows)
            self._length = count(rows)
            _copy(self._columns, torch.arange(self._length), rows)

    def _allocate_all(self, rows: Mapping[str, Rows]) -> None:
        self._columns = {n: self._allocate(n, v) for n, v in rows.items()}
        self._form = {n: (leaf.dtype, leaf.shape[1:]) for n, leaf in leaves(rows)}

    def _allocate(self, name: str, rows: Rows) -> Column:
        if not isinstance(rows, Tensor):
            nested = {k: self._allocate(f"{name}.{k}", v) for k, v in rows.items()}
            return TensorDict(nested, batch_size=[self.capacity], device=self.device)
        shape = (self.capacity, *rows.shape[1:])
        if self.directory is None:
            return torch.zeros(shape, dtype=rows.dtype, device=self.device)
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"{name}.{self.capacity}.bin"
        for stale in self.directory.glob(f"{name}.*.bin"):
            stale.unlink()
        size = torch.Size(shape).numel()
        mapped = torch.from_file(str(path), shared=True, size=size, dtype=rows.dtype)
        return mapped.view(shape)

    def _length_after(self, slots: Tensor) -> int:
        wanted = sorted(slots.tolist())
        if not wanted:
            return self._length
        if wanted[0] < 0 or wanted[-1] >= self.capacity:
            raise ValueError(
                f"slots must lie in 0 … {self.capacity - 1} (the capacity is "
                f"{self.capacity}), got {wanted[0]} … {wanted[-1]}"
            )
        if len(set(wanted)) != len(wanted):
            raise ValueError(f"slots must be distinct, got {wanted}")
        new = [slot for slot in wanted if slot >= self._length]
        if new and new != list(range(self._length, self._length + len(new))):
            raise ValueError(
                f"new slots must continue the {self._length} rows held without a gap, "
                f"got {new}"
            )
        return self._length + len(new)


def _usable(device: Any) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (AssertionError, NotImplementedError, RuntimeError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"device {device!r} cannot be used here ({reason}): name one such as 'cpu' "
            "or 'cuda:0'"
        ) from None


def _writable(directory: Any) -> Path:
    """A folder where files can be made, or one below such a folder."""
    if not isinstance(directory, str | os.PathLike):
        raise ValueError(f"directory must be a path or None, got {directory!r}")
    there = Path(directory).absolute()
    try:
        while not there.exists():
            there = there.parent
        # Permissions do not tell: nobody can write to some file systems.
        with TemporaryDirectory(dir=there):
            pass
    except OSError as error:
        raise ValueError(
            f"directory {str(directory)!r} cannot be written, {there}: {error.strerror}: "
            "name a folder for the rows"
        ) from None
    return Path(directory)


def _copy(columns: Any, slots: Tensor, rows: Any) -> None:
    for name, column in columns.items():
        if isinstance(column, Tensor):
            column.index_copy_(
                0, slots.to(column.device), rows[name].to(column.device).detach()
            )
        else:
            _copy(column, slots, rows[name])


def _plain(column: Column, copy: bool = True) -> Rows:
    if isinstance(column, Tensor):
        return column.detach().clone() if copy else column.detach()
    return {name: _plain(value, copy) for name, value in column.items()}
