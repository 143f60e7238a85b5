"""experiments/store.py: files, what is there already, provenance."""

import json
from pathlib import Path

import pytest
from full_disk import full_disk

from experiments import store
from experiments.errors import UserError
from experiments.summary import COLUMNS

RESULT = {"format": 1, "seed": 0, **dict.fromkeys(COLUMNS, 0.5)}


def config(lr=0.1, mem_size=200, digest="d", **more):
    options = {"lr": lr, "seeds": 3, "out": "runs", "data_root": "data", **more}
    data = {"source": "s", "sha256": digest}
    return store.configuration("command", options, {"mem_size": mem_size}, data)


def test_both_files_are_written(tmp_path):
    store.write_seed(tmp_path / "run", 4, config(), {**RESULT, "seed": 4})
    directory = store.seed_directory(tmp_path / "run", 4)
    assert sorted(p.name for p in directory.iterdir()) == ["config.json", "result.json"]
    written = json.loads((directory / "config.json").read_text())
    assert written["seed"] == 4
    assert written["command"] == "command"
    assert set(written["versions"]) == {
        *("python", "torch", "avalanche-lib", "numpy", "avalanche_ext")
    }
    assert set(written["git"]) == {"commit", "dirty"}
    assert written["created"].endswith("+00:00")
    assert store.finished(tmp_path / "run", config()) == {4: {**RESULT, "seed": 4}}


def test_json_has_a_line_a_key(tmp_path):
    value = {"a": [[1, None], [2.5, 3]], "b": {"c": 1}, "d": "±"}
    store.write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert ' "a": [[1, null], [2.5, 3]],\n' in text
    assert '"±"' in text


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "x.json"
    store.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_full_disk_leaves_no_part(tmp_path):
    store.write_whole(tmp_path / "x.txt", "before")
    with full_disk(1000), pytest.raises(OSError, match="large"):
        store.write_whole(tmp_path / "x.txt", 2000 * "a")
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]
    assert (tmp_path / "x.txt").read_text() == "before"
    directory = store.seed_directory(tmp_path, 0)
    directory.mkdir()
    store.memory_part(directory).write_bytes(b"rows")
    with full_disk(10), pytest.raises(OSError, match="large"):
        store.write_seed(tmp_path, 0, config(), RESULT)
    assert list(directory.iterdir()) == []


def test_an_interrupted_replacement_is_no_result(tmp_path, monkeypatch):
    store.write_seed(tmp_path, 0, config(), RESULT)
    replace = store.os.replace

    def fail(source, target):
        if Path(target).name == "result.json":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(store.os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        store.write_seed(tmp_path, 0, config(lr=1), RESULT)
    assert store.finished(tmp_path, config(lr=1)) == {}
    assert sorted(p.name for p in (tmp_path / "seed-0").iterdir()) == ["config.json"]


@pytest.mark.parametrize("same", [{"seeds": 9}, {"out": "x"}, {"data_root": "x"}, {}])
def test_options_without_effect_may_differ(tmp_path, same):
    store.write_seed(tmp_path, 0, config(), RESULT)
    assert list(store.finished(tmp_path, config(**same))) == [0]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"lr": 0.2}, "--lr 0.1 (now 0.2)"),
        ({"mem_size": 9}, "mem_size 200 (now 9)"),
        ({"batch_size": 9}, "--batch-size 10 (now 9)"),
        ({"nothing": 9}, "--nothing None (now 9)"),
        ({"digest": "e"}, "other data (now s)"),
    ],
)
def test_results_of_other_options_are_refused(tmp_path, other, told):
    store.write_seed(tmp_path, 0, config(), RESULT)
    with pytest.raises(UserError) as raised:
        store.finished(tmp_path, config(**other))
    assert str(raised.value) == (
        f"{tmp_path / 'seed-0'} was run with {told}: use another --out, or "
        "--overwrite to replace it"
    )


def test_an_option_that_was_not_there_yet_counts_as_its_default(tmp_path):
    store.write_seed(tmp_path, 0, config(), RESULT)
    later = config(batch_size=10, samples=[])
    assert list(store.finished(tmp_path, later)) == [0]
    with pytest.raises(UserError, match=r"--samples \[\] .now \[5\]"):
        store.finished(tmp_path, config(samples=[5]))


def test_a_methods_option_that_was_not_there_yet_counts_as_its_default(tmp_path):
    then = config(method="er-ring")
    store.write_seed(tmp_path, 0, then, RESULT)
    now = {**then["method_options"], "batch_size_mem": 10, "per_class": None}
    assert list(store.finished(tmp_path, {**then, "method_options": now})) == [0]
    now["batch_size_mem"] = 20
    with pytest.raises(UserError, match=r"batch_size_mem 10 .now 20"):
        store.finished(tmp_path, {**then, "method_options": now})


def test_data_and_options_can_be_left_out_of_the_comparison(tmp_path):
    store.write_seed(tmp_path, 0, config(device="cuda"), RESULT)
    now = {**config(device="cpu"), "data": {}}
    assert list(store.finished(tmp_path, now, anyway=("device",))) == [0]
    with pytest.raises(UserError, match=r"--device cuda .now cpu"):
        store.finished(tmp_path, now)
    with pytest.raises(UserError, match="other data"):
        store.finished(tmp_path, config(digest="e"), anyway=("device",))


@pytest.mark.parametrize("name", ["config.json", "result.json"])
@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2}', '{"format": 1}'])
def test_unreadable_files_are_refused(tmp_path, name, text):
    store.write_seed(tmp_path, 0, config(), RESULT)
    (tmp_path / "seed-0" / name).write_text(text)
    with pytest.raises(UserError, match=rf"{name} cannot be read .*--overwrite"):
        store.finished(tmp_path, config())


def made(commit="a" * 40, dirty=False, **versions):
    known = {"torch": "2.0", "avalanche-lib": "0.6", "numpy": "2.4"}
    git = {"commit": commit, "dirty": dirty}
    return {**config(), "git": git, "versions": {**known, **versions}}


def test_another_origin_of_results_is_told_in_one_line(tmp_path):
    for run, seed, then in (
        ("er", 0, made()),
        ("er", 1, made(torch="1.9")),
        ("er", 2, made(torch="1.9")),
        ("er", 4, made(dirty=True)),
        ("sgd", 0, made(torch="1.9")),
        ("sgd", 2, made(torch="1.9")),
    ):
        store.write_seed(tmp_path / run, seed, then, {**RESULT, "seed": seed})
    used = {"er": [4, 2, 1, 0], "sgd": [0, 2], "none": []}
    versions = "avalanche-lib 0.6, numpy 2.4"
    assert store.other_origin(tmp_path, used, made()) == (
        f"{tmp_path} holds er seeds 1–2, sgd seeds 0, 2 by commit aaaaaaa, torch 1.9, "
        f"{versions}; er seed 4 by commit aaaaaaa with changes, torch 2.0, {versions}; "
        f"now commit aaaaaaa, torch 2.0, {versions}: --overwrite runs them again"
    )
    assert store.other_origin(tmp_path, {"er": [0]}, made()) == ""
    assert store.other_origin(tmp_path, {}, made(commit="b" * 40)) == ""


def test_other_configurations_can_be_dropped(tmp_path):
    store.write_seed(tmp_path, 0, config(), RESULT)
    store.write_seed(tmp_path, 1, config(lr=1), {**RESULT, "seed": 1})
    store.write_seed(tmp_path, 2, config(), {**RESULT, "seed": 2})
    (tmp_path / "seed-2" / "config.json").write_text("{")
    store.drop_others(tmp_path, config())
    assert list(store.finished(tmp_path, config())) == [0]
