"""experiments/table/reading.py: a protocol file is read whole or refused."""

import json

import pytest

from experiments.errors import UserError
from experiments.methods import METHODS
from experiments.models import INITS
from experiments.sources import SOURCES
from experiments.table import reading
from experiments.table.protocol import CERTAINTIES, TO_COME, Published

PAPER = "cells.plain.published.average_accuracy"
TRANSFER = "cells.er.published.backward_transfer"


def test_a_table_is_read(protocols):
    assert reading.names() == ["digits"]
    table = reading.read("digits")
    assert list(table.cells) == ["plain", "er", "later"]
    er = table.cells["er"]
    assert (er.label, er.method, er.seeds) == ("ER, memory 50", "reservoir-replay", 2)
    assert er.options == {
        **{"benchmark": "split-digits", "epochs": 1, "hidden": [10]},
        "lr": 0.05,
    }
    assert er.settings == {"mem_size": 50}
    assert er.published == {
        "average_accuracy": Published(70.0, None, False, 5, "A paper", "repo", "repo"),
        "backward_transfer": Published(-5.0, 0.5, True, 5, "A paper", "repo", "repo"),
    }
    assert [cell.implemented for cell in table.cells.values()] == [True, True, False]
    assert table.sources == ["A paper"]


def test_a_value_may_say_otherwise_than_all(changed):
    own = {"mean": 10, "sd": 2, "seeds": 9, "source": "B", "certainty": "recalled"}
    name = changed(PAPER, own)
    cell = reading.read(name).cells["plain"]
    assert cell.published["average_accuracy"] == (
        Published(10.0, 2, False, 9, "B", "recalled", "recalled")
    )


def test_a_transfer_over_all_tasks_becomes_one_over_those_before_the_last(changed):
    own = {"mean": -9.5, "sd": 1.9, "of_tasks": 20}
    found = reading.read(changed(TRANSFER, own)).cells["er"].published
    assert found["backward_transfer"].mean == pytest.approx(-10.0)
    assert found["backward_transfer"].spread == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("for_all", "own", "expected"),
    [
        ({"certainty": "repo"}, {}, ("repo", "repo")),
        (
            {"certainty": "repo", "spread_certainty": "recalled"},
            {},
            ("repo", "recalled"),
        ),
        ({"certainty": "copy"}, {"spread_certainty": "recalled"}, ("copy", "recalled")),
        # What a value says of its mean is not overridden by the ± of all.
        (
            {"certainty": "recalled", "spread_certainty": "recalled"},
            {"certainty": "repo"},
            ("repo", "repo"),
        ),
    ],
)
def test_the_certainty_of_mean_and_spread(changed, protocols, for_all, own, expected):
    name = changed("published", {"source": "A", "seeds": 5, **for_all})
    content = json.loads((reading.FOLDER / f"{name}.json").read_text())
    content["cells"]["plain"]["published"]["average_accuracy"].update(own)
    protocols(content)
    found = reading.read(name).cells["plain"].published["average_accuracy"]
    assert (found.certainty, found.spread_certainty) == expected


@pytest.mark.parametrize(
    ("place", "value", "parts"),
    [
        ("tilte", "x", ["the file: unknown key 'tilte' (did you mean 'title'?)"]),
        ("title", 3, ["title: 3 is no text"]),
        ("title", " ", ["title", "is no text: write one"]),
        ("seeds", 0, ["seeds: 0: use a whole number, 1 or more"]),
        ("seeds", True, ["seeds: true: use a whole number"]),
        ("cells", {}, ["cells: there is none"]),
        ("cells", [], ["cells: [] is no object"]),
        ("published", {"sources": "x"}, ["published: unknown key 'sources'"]),
        ("options.lr", "0.1", ["options.lr: '0.1' is not float"]),
        ("options.hidden", [1.5], ["options.hidden: [1.5] is not a list of int"]),
        ("options.epochs", True, ["options.epochs: True is not int or null"]),
        ("options.eppochs", 1, ["options.eppochs: unknown option", "'epochs'?"]),
        ("options.out", "x", ["options.out: unknown option 'out'"]),
        ("options.method", "naive", ["options.method: unknown option"]),
        ("cells.plain.options", {"lr": -1}, ["cells.plain: --lr -1", "above 0"]),
        ("cells.plain.options", {"r": 1}, ["cells.plain.options.r: unknown option"]),
        ("cells.plain.options", {"scenario": "x"}, ["unknown scenario 'x'", "domain"]),
        ("cells.plain.set", {"mem_size": 5}, ["cells.plain: --set mem_size=5", "none"]),
        ("cells.er.set", {"mem": 5}, ["cells.er: --set mem=5", "mem_size (int"]),
        ("cells.er.set", {"mem_size": "big"}, ["--set mem_size=big", "is not int"]),
        ("cells.er.set", 5, ["cells.er.set: 5 is no object"]),
        ("cells.plain.method", ["naive"], ['cells.plain.method: ["naive"] is no text']),
        ("cells.plain.method", {}, ["cells.plain.method: {} is no text"]),
        ("cells.plain.method", "nave", ["cells.plain.method: unknown method 'nave'"]),
        ("cells.plain.method", "der ", ["unknown method 'der ' (did you mean 'der'?)"]),
        ("cells.plain.label", "", ["cells.plain.label", "is no text"]),
        ("cells.plain.nope", 1, ["cells.plain: unknown key 'nope'", "note"]),
        ("cells.plain.seeds", 1.5, ["cells.plain.seeds: 1.5: use a whole number"]),
        (
            "cells.plain.published_strength",
            {"lambda": 3},
            ["cells.plain.published_strength", 'no "set": add it'],
        ),
        ("cells.plain.counted", 1, ["cells.plain.counted: 1: use true or false"]),
        ("cells.a/x", {}, ["cells: 'a/x' names a folder: use letters, digits and -"]),
        ("cells.a b", {}, ["cells: 'a b' names a folder"]),
        ("cells.", {}, ["cells: '' names a folder"]),
        ("options.benchmark", "own", ["options.benchmark: unknown benchmark 'own'"]),
        (
            "cells.later.options",
            {"benchmark": "mnist"},
            ["cells.later.options.benchmark: unknown benchmark 'mnist'"],
        ),
        ("cells.plain.published", {}, ["cells.plain.published: is empty"]),
        (
            "cells.plain.published",
            {"accuracy": {"mean": 1, "sd": 1}},
            ["unknown key 'accuracy'", "average_accuracy", "backward_transfer"],
        ),
        (PAPER, 80, [f"{PAPER}: 80 is no object"]),
        (PAPER, {"mean": 80}, [PAPER, 'give one of "sd" and "sem"']),
        (PAPER, {"mean": 80, "sd": 1, "sem": 1}, ['give one of "sd" and "sem"']),
        (PAPER, {"mean": "80", "sd": 1}, [f'{PAPER}.mean: "80" is no number']),
        (PAPER, {"sd": 1}, [f'{PAPER}: no "mean"']),
        (PAPER, {"mean": float("nan"), "sd": 1}, [f"{PAPER}.mean: nan: use a number"]),
        (PAPER, {"mean": float("inf"), "sd": 1}, [f"{PAPER}.mean: inf: use a number"]),
        (PAPER, {"mean": 100.5, "sd": 1}, [f"{PAPER}.mean: 100.5", "-100 to 100"]),
        (PAPER, {"mean": 10**400, "sd": 1}, [f"{PAPER}.mean: 1000", "-100 to 100"]),
        (PAPER, {"mean": 0.8, "sd": 1}, [f"{PAPER}.mean: 0.8 is no accuracy in %"]),
        (PAPER, {"mean": 1, "sd": 1}, ["mean: 1.0 is no accuracy in %"]),
        (PAPER, {"mean": -5, "sd": 1}, ["mean: -5.0 is no accuracy in %"]),
        (PAPER, {"mean": 80, "sd": float("nan")}, [f"{PAPER}.sd: nan: use a number"]),
        (PAPER, {"mean": 80, "sem": 101}, [f"{PAPER}.sem: 101: use a number"]),
        (PAPER, {"mean": 80, "sd": "1"}, [f'{PAPER}.sd: "1" is no number']),
        (PAPER, {"mean": 80, "sd": 1, "of_tasks": 5}, ["unknown key 'of_tasks'"]),
        (TRANSFER, {"mean": -101, "sd": None}, [f"{TRANSFER}.mean: -101"]),
        (TRANSFER, {"mean": 1, "sd": None, "of_tasks": 1}, ["of_tasks: 1: use 2"]),
        (TRANSFER, {"mean": 1, "sd": None, "of_tasks": 2.5}, ["of_tasks: 2.5: use a"]),
        (PAPER, {"mean": 80, "sd": -1}, ["its ± is -1.0: use 0 or more, or null"]),
        (
            PAPER,
            {"mean": 80, "sd": 1, "certainty": "sure"},
            [f"{PAPER}: unknown certainty 'sure'", "repo, copy, recalled"],
        ),
        (
            PAPER,
            {"mean": 80, "sd": 1, "certainty": ["repo"]},
            [f'{PAPER}.certainty: ["repo"] is no text'],
        ),
        (
            PAPER,
            {"mean": 80, "sd": 1, "spread_certainty": {}},
            [f"{PAPER}.certainty: {{}} is no text"],
        ),
        (
            PAPER,
            {"mean": 80, "sd": 1, "spread_certainty": "x"},
            ["unknown certainty 'x'"],
        ),
        (PAPER, {"mean": 80, "sd": 1, "source": ""}, [f"{PAPER}.source", "is no text"]),
        (PAPER, {"mean": 80, "sd": 1, "seeds": None}, ['an "sd" without "seeds"']),
        ("published", {"certainty": "repo"}, [PAPER, 'no "source": add it here']),
        ("published", {"source": "A"}, [PAPER, 'no "certainty": add it here']),
    ],
)
def test_a_mistake_is_told_in_one_line(changed, place, value, parts):
    name = changed(place, value)
    with pytest.raises(UserError) as raised:
        reading.read(name)
    told = str(raised.value)
    assert told.startswith("digits.json: ")
    assert "\n" not in told
    for part in parts:
        assert part in told


@pytest.mark.parametrize(
    "place",
    [
        *("title", "setting", "seeds", "published", "options", "cells"),
        *("options.benchmark", "cells.er.label", "cells.er.method"),
        "cells.er.published",
    ],
)
def test_a_missing_key_is_told(changed, place):
    name = changed(place, remove=True)
    with pytest.raises(UserError, match=f'digits.json: .*no "{place.split(".")[-1]}"'):
        reading.read(name)


def test_a_cell_that_stands_twice_is_told(protocols):
    name = protocols('{"cells": {"a": {}, "b": {}, "a": {}}}')
    with pytest.raises(UserError, match=r"digits.json: 'a' stands twice"):
        reading.read(name)


def test_a_file_that_is_no_json_is_told(protocols):
    with pytest.raises(UserError, match=r"digits.json: Expecting"):
        reading.read(protocols("{"))


def test_unknown_tables_and_cells_list_those_that_are_there(protocols):
    with pytest.raises(
        UserError, match=r"unknown table 'digit' .*'digits'.*use digits"
    ):
        reading.read("digit")
    table = reading.read("digits")
    assert [cell.name for cell in table.chosen(())] == ["plain", "er", "later"]
    assert [cell.name for cell in table.chosen(("later", "plain"))] == [
        "plain",
        "later",
    ]
    with pytest.raises(UserError, match=r"cell of digits 'err' .*use plain, er, later"):
        table.chosen(("plain", "err"))


TABLES = {  # and how many rows were published
    "split-mnist-online": 24,
    "permuted-mnist": 19,
    "rotated-mnist": 19,
    "split-mnist-scenarios": 17,
    "si-split-mnist": 1,
    "si-permuted-mnist": 3,
    "tiny-memories": 18,
    "what-to-keep": 8,
    "meta-rotated-mnist": 6,
    "split-cifar10-online": 12,
    "split-cifar10-offline": 18,
}


@pytest.mark.parametrize("name", TABLES)
def test_the_protocols_that_ship_are_of_the_form(name):
    table = reading.read(name)
    assert sum(cell.counted for cell in table.cells.values()) == TABLES[name]
    for cell in table.cells.values():
        assert cell.options["benchmark"] in SOURCES
        assert cell.options["init"] in INITS  # said, not left to a default
        assert cell.method is None or cell.method in METHODS or cell.method in TO_COME
        for published in cell.published.values():
            assert published.certainty in CERTAINTIES


def test_every_protocol_that_ships_is_known_here():
    assert reading.names() == sorted(TABLES)


@pytest.mark.parametrize(
    ("name", "cell", "strength", "own"),
    [
        # Mammoth's penalty has no ½, ours has: twice its λ.
        ("split-mnist-online", "ewc", {"lambda": 90}, {"ewc_lambda": 180}),
        ("permuted-mnist", "ewc", {"lambda": 0.7}, {"ewc_lambda": 1.4}),
        ("rotated-mnist", "ewc", {"lambda": 0.7}, {"ewc_lambda": 1.4}),
        # This one has the ½.
        ("split-mnist-scenarios", "task-ewc", {"lambda": 1e5}, {"ewc_lambda": 1e5}),
        ("split-mnist-scenarios", "class-si", {"c": 5000}, {"si_lambda": 5000}),
        ("split-mnist-online", "gem-500", {"margin": 0.5}, {"memory_strength": 0.5}),
    ],
)
def test_strengths_are_converted(name, cell, strength, own):
    found = reading.read(name).cells[cell]
    assert strength.items() <= found.strength.items()
    assert own.items() <= found.settings.items()


def test_what_a_table_rests_on_without_being_published_is_noted():
    notes = {name: reading.read(name).note for name in reading.names()}
    assert "truncated normal" in notes["tiny-memories"]
    assert "not known" in notes["what-to-keep"]
    for name in ("split-mnist-online", "permuted-mnist", "rotated-mnist"):
        assert "not published" in reading.read(name).cells["joint"].note
    meta = reading.read("meta-rotated-mnist").cells
    assert "script of MER's authors" in meta["online"].note
    assert "not known" in meta["ewc"].note
    assert meta["ewc"].strength["conversion"] == "unknown"


def test_the_references_of_gss_are_given():
    for cell in reading.read("what-to-keep").cells.values():
        assert cell.method != "gss" or cell.settings["references"] == 10
    for cell in reading.read("split-mnist-online").cells.values():
        assert cell.method != "gss" or cell.settings["gss_batch_size"] == 10


def test_published_transfers_of_the_meta_table_are_over_19_tasks():
    cells = reading.read("meta-rotated-mnist").cells
    found = {
        name: cell.published["backward_transfer"].mean for name, cell in cells.items()
    }
    assert found["gem"] == pytest.approx(-18.02 * 20 / 19)
    assert found["la-maml"] == pytest.approx(-8.64 * 20 / 19)


def test_the_offline_table_is_there_and_says_why_it_is_not_run():
    table = reading.read("split-cifar10-offline")
    assert not any(cell.implemented for cell in table.cells.values())
    assert "not there yet" in table.note
    assert table.cells["derpp-500"].published["average_accuracy"].mean == 72.7


def test_rows_that_are_ours_alone_say_so_and_share_a_published_figure():
    for name in reading.names():
        cells = reading.read(name).cells.values()
        for cell in cells:
            says = cell.note.startswith("no row of the published table: ")
            assert says == (not cell.counted)
            assert cell.counted or cell.published in [
                other.published for other in cells if other.counted
            ]
