"""experiments/memory_sample.py: rows of a memory in a file, against the memory."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from full_disk import full_disk
from torch import nn

from avalanche_ext import MultiStrategyBuffer
from experiments import memory_sample, store
from experiments.__main__ import main
from experiments.errors import UserError
from experiments.memory_sample import as_images, leave, read, sample
from experiments.summary import COLUMNS

RESULT = {"format": 1, "seed": 0, **dict.fromkeys(COLUMNS, 0.5)}
CONFIG = store.configuration("command", {}, {}, {"source": "s", "sha256": "d"})


def memory_of(rows, size=None, **options):
    """Images that tell their own number in the first pixels, and are half scored."""
    memory = MultiStrategyBuffer(size or rows, seed=0, **options)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
    numbers = torch.arange(rows)
    x = torch.zeros(rows, 1, 2, 4)
    x[:, 0, 0, 0], x[:, 0, 0, 1] = numbers // 256, numbers % 256
    half = rows // 2
    y = numbers % 3
    memory.add(x[:half], y[:half], y[:half] // 2, model=model)
    memory.sample(2)
    memory.add(x[half:], y[half:], y[half:] // 2)
    return memory


def test_columns_belong_to_their_rows():
    memory = memory_of(30, sampling="loss")
    classes = [f"class {y}" for y in memory.table.column("y").tolist()]
    stale, age, uses = memory.stale, memory.ages, memory.uses
    rows = sample(memory, classes, 255)
    assert rows["stored"] == 30
    assert rows["slot"].tolist() == list(range(30))
    assert rows["class"].tolist() == classes
    assert rows["label"].tolist() == memory.table.column("y").tolist()
    assert rows["task"].tolist() == memory.table.column("task").tolist()
    assert rows["age"].tolist() == age.tolist()
    assert rows["uses"].tolist() == uses.tolist()
    assert {name for name in rows if name.startswith("score_")} == {"score_loss"}
    assert np.isnan(rows["score_loss"]).tolist() == stale.tolist()
    assert 0 < stale.sum() < 30
    known = memory.table.column("score_loss")[~stale]
    assert rows["score_loss"][~stale.numpy()].tolist() == known.tolist()
    assert torch.equal(memory.stale, stale)


@pytest.mark.parametrize(
    ("rows", "pixels", "most"),
    [(199, 8, 199), (200, 8, 200), (700, 8, 200), (300, 2**14, 64), (30, 2**18, 10)],
)
def test_how_many_rows_are_kept(rows, pixels, most):
    """Two hundred, a megabyte of pixels, but ten of any size."""
    memory = MultiStrategyBuffer(rows, seed=0)
    memory.add(
        torch.zeros(rows, 1, 2, pixels // 2, dtype=torch.uint8), torch.ones(rows)
    )
    before = torch.get_rng_state(), memory._drawing.generator.get_state()
    kept = sample(memory, ["1"] * rows, 255)
    after = torch.get_rng_state(), memory._drawing.generator.get_state()
    assert all(map(torch.equal, before, after))
    assert len(kept["slot"]) == len(kept["image"]) == most
    assert kept["stored"] == rows
    assert sorted(set(kept["slot"].tolist())) == kept["slot"].tolist()
    again = sample(memory, ["1"] * rows, 255)
    assert all(np.array_equal(kept[name], again[name]) for name in kept)


def test_a_part_of_a_memory_is_drawn_with_its_columns():
    memory = memory_of(1000, sampling="uniform")
    first = memory.table.column("x")[:, 0, 0, :2].long()
    numbers = (256 * first[:, 0] + first[:, 1]).tolist()
    rows = sample(memory, list(map(str, numbers)), 255)
    assert rows["class"].tolist() == [str(numbers[s]) for s in rows["slot"].tolist()]
    for position, slot in enumerate(rows["slot"].tolist()):
        # The first row offered is the oldest: an age tells the number.
        assert rows["age"][position] == 999 - numbers[slot]
        assert rows["label"][position] == numbers[slot] % 3
    assert rows["slot"].max() > 500  # not the first ones


def test_an_empty_memory_and_inputs_that_are_no_images():
    memory = MultiStrategyBuffer(5, seed=0)
    assert [len(rows) for rows in list(sample(memory, [], None).values())[1:]] == [
        0
    ] * 6
    memory.add({"a": torch.zeros(3, 4), "b": torch.zeros(3, 2)}, torch.arange(3))
    rows = sample(memory, list("abc"), None)
    assert "image" not in rows
    assert rows["class"].tolist() == ["a", "b", "c"]
    assert rows["task"].tolist() == [-1, -1, -1]


IMAGES = np.arange(2 * 12, dtype=np.uint8).reshape(2, 1, 3, 4)


@pytest.mark.parametrize(
    ("x", "maximum", "expected"),
    [
        (IMAGES, 255, IMAGES),
        (IMAGES // 8, 3, 85 * (IMAGES // 8)),
        (IMAGES[:, 0], 255, IMAGES),
        (IMAGES / np.float32(255), 255, IMAGES),
        (IMAGES[:, 0].astype(np.float32) - 9, None, np.round(IMAGES * (255 / 23))),
        (np.zeros((2, 1, 3, 4)), None, np.zeros((2, 1, 3, 4))),
        (np.zeros((2, 5, 6, 3)), None, np.zeros((2, 3, 5, 6))),
        (np.zeros((2, 5)), None, None),
        (np.zeros((2, 5, 6, 7)), None, None),
        (np.zeros((2, 1, 1, 8)), None, None),
        (np.zeros((2, 1, 3, 4, 4)), None, None),
    ],
)
def test_what_looks_like_an_image(x, maximum, expected):
    found = as_images(x, maximum)
    if expected is None:
        assert found is None
        return
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


def test_left_rows_get_their_name_with_the_result(tmp_path):
    directory = store.seed_directory(tmp_path, 0)
    rows = sample(memory_of(9), list("abcabcabc"), 255)
    leave(directory, rows)
    assert read(directory) is None  # not before the result is there
    assert not store.finished(tmp_path, CONFIG)
    store.write_seed(tmp_path, 0, CONFIG, RESULT)
    names = ["config.json", "memory.npz", "result.json"]
    assert sorted(p.name for p in directory.iterdir()) == names
    found = read(directory)
    assert found.keys() == rows.keys()
    assert all(np.array_equal(found[n], rows[n]) for n in rows)


@pytest.mark.parametrize("rows", [None, "not left at all"])
def test_rows_of_an_earlier_result_go_with_it(tmp_path, rows):
    directory = store.seed_directory(tmp_path, 0)
    leave(directory, sample(memory_of(9), ["a"] * 9, 255))
    store.write_seed(tmp_path, 0, CONFIG, RESULT)
    if rows is None:
        leave(directory, sample(memory_of(9), ["a"] * 9, 255))  # and is cut short
        leave(directory, None)
    store.write_seed(tmp_path, 0, CONFIG, RESULT)
    names = ["config.json", "result.json"]
    assert sorted(p.name for p in directory.iterdir()) == names


@pytest.mark.parametrize("at", ["memory.npz", "result.json"])
def test_rows_and_result_are_of_one_training(tmp_path, monkeypatch, at):
    """Cut short anywhere, no result stands beside rows of another one."""
    leave(store.seed_directory(tmp_path, 0), sample(memory_of(9), ["a"] * 9, 255))
    store.write_seed(tmp_path, 0, CONFIG, RESULT)
    leave(store.seed_directory(tmp_path, 0), sample(memory_of(8), ["a"] * 8, 255))
    replace = store.os.replace

    def fail(source, target):
        if Path(target).name == at:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(store.os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        store.write_seed(tmp_path, 0, CONFIG, RESULT)
    assert store.finished(tmp_path, CONFIG) == {}


def test_a_full_disk_leaves_no_part(tmp_path):
    with full_disk(100), pytest.raises(UserError, match=r"npz\.part \(.*large"):
        leave(tmp_path / "seed-0", sample(memory_of(9), ["a"] * 9, 255))
    assert not list((tmp_path / "seed-0").iterdir())


def test_a_folder_that_takes_no_file_is_told(tmp_path):
    (tmp_path / "seed-0").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*memory\.npz\.part .*--out"):
        leave(tmp_path / "seed-0", sample(memory_of(9), ["a"] * 9, 255))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "No data left"),
        (b"PK\x03\x04 half", "zip"),
        ({"stored": np.array(1)}, "it lacks slot, class"),
        (
            dict.fromkeys(("stored", *memory_sample._KEYS), np.zeros(2))
            | {"age": np.zeros(3)},
            r"lengths \[2, 3\]",
        ),
        (
            dict.fromkeys(("stored", *memory_sample._KEYS), np.array([None])),
            "pickle",
        ),
    ],
)
def test_an_unreadable_file_is_named(tmp_path, content, told):
    path = tmp_path / "memory.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content)
    with pytest.raises(UserError, match=rf"memory\.npz cannot be read .*{told}"):
        read(tmp_path)


def test_a_run_from_end_to_end(tmp_path, monkeypatch, capsys):
    """The same rows twice, and none of a method without a memory."""
    monkeypatch.chdir(tmp_path)
    line = "run split-digits {} --epochs 1 --seeds 1 --progress off --out {}"
    replay = "multi-strategy-replay --set sampling=loss criteria=loss mem_size=40"
    for out in "ab":
        assert main(line.format(replay, out).split()) == 0
    paths = [next(Path(out).glob("*/seed-0")) for out in "ab"]
    one, other = map(read, paths)
    assert one.keys() == other.keys()
    assert all(
        np.array_equal(one[n], other[n], equal_nan=True) for n in one if n != "class"
    )
    assert one["class"].tolist() == other["class"].tolist()
    assert one["image"].shape == (40, 1, 8, 8)
    assert one["image"].max() == 255  # of pixels up to 16
    result = json.loads((paths[0] / "result.json").read_text())
    last = result["memory_composition"][-1]
    assert {n: one["class"].tolist().count(n) for n in set(one["class"])} == last
    assert 'src="data:image/png' in (paths[0].parent / "report.html").read_text()
    assert main(line.format("naive", "c").split()) == 0
    (path,) = Path("c").glob("*/seed-0")
    assert read(path) is None
    assert "<img" not in (path.parent / "report.html").read_text()
