"""experiments/memory_page.py: what a page tells of a memory, from invented results."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from experiments import memory_page
from experiments.errors import UserError
from experiments.finished_run import FinishedRun
from experiments.memory_page import memory_section
from experiments.memory_sample import leave
from experiments.store import memory_part


def reading(shift=0.0, **fields):
    return {
        "rows": 20,
        "stale": 0.25,
        "scores": {"loss": [shift + i for i in range(7)]},
        "ages": [10.0 * i for i in range(7)],
        "uses": [0.0] * 7,
        "never_drawn": 0.5 + shift / 10,
        "effective_sample_size": 4.0 + shift,
        **fields,
    }


def run_of(tmp_path, *healths):
    results = tuple(
        {"seed": seed, "memory_health": health} for seed, health in enumerate(healths)
    )
    return FinishedRun(tmp_path, results, (), ())


@pytest.fixture
def drawn(monkeypatch):
    """What the figures are given."""
    given = []

    def quantile_panels(panels, sizes=None):
        given.append((dict(panels), sizes))
        return "<svg>"

    monkeypatch.setattr(memory_page, "quantile_panels", quantile_panels)
    return given


def test_means_over_seeds_by_hand(tmp_path, drawn):
    one = [reading(), reading(scores={}), reading()]
    other = [reading(2.0), reading(2.0), reading(1.0, stale=0.75)]
    section = memory_section(run_of(tmp_path, one, other))
    (scores, _), (facts, sizes) = drawn
    np.testing.assert_array_equal(
        scores["loss"], [np.arange(7) + 1, np.arange(7) + 2, np.arange(7) + 0.5]
    )
    assert list(facts) == ["age", "uses"]
    np.testing.assert_array_equal(facts["age"], [10 * np.arange(7)] * 3)
    np.testing.assert_array_equal(sizes, [[20, 5], [20, 5], [20, 4.5]])
    assert (section["stale"], section["never_drawn"]) == ("50.0", "55.0")
    assert section["sized"]
    assert section["sheet"] is None


def test_seeds_may_lack_what_others_have(tmp_path, drawn):
    """A criterion of one seed alone, infinite scores, empty memories, old results."""
    mixed = {"mixed": [None, 1, 1, 1, 1, 1, None]}
    empty = reading(scores={}, ages=[], uses=[], effective_sample_size=None)
    run = run_of(tmp_path, [empty, reading()], [empty, reading(scores=mixed)], None, [])
    del run.results[2]["memory_health"]
    assert memory_section(run)["sized"]
    (scores, _), (facts, sizes) = drawn
    assert list(scores) == ["loss", "mixed"]
    np.testing.assert_array_equal(scores["loss"], [[np.nan] * 7, np.arange(7)])
    np.testing.assert_array_equal(
        scores["mixed"], [[np.nan] * 7, [np.nan, 1, 1, 1, 1, 1, np.nan]]
    )
    np.testing.assert_array_equal(facts["age"], [[np.nan] * 7, 10 * np.arange(7)])
    np.testing.assert_array_equal(sizes, [[20, np.nan], [20, 4]])


def test_criteria_named_as_facts_are(tmp_path, drawn):
    scores = {
        name: [i] * 7 for i, name in enumerate(["age", "uses", "sizes", "shares"])
    }
    memory_section(run_of(tmp_path, [reading(scores=scores)]))
    (shown, _), (facts, _) = drawn
    assert {name: values.tolist() for name, values in shown.items()} == {
        name: [values] for name, values in scores.items()
    }
    np.testing.assert_array_equal(facts["age"], [10 * np.arange(7)])


def test_memories_without_scores_or_probabilities(tmp_path, drawn):
    plain = reading(scores={}, effective_sample_size=None)
    section = memory_section(run_of(tmp_path, [plain]))
    assert section["scores"] is None
    assert not section["sized"]
    ((_, sizes),) = drawn
    assert sizes is None


def test_nothing_was_measured(tmp_path):
    assert memory_section(run_of(tmp_path, [], [])) is None


@pytest.mark.parametrize(
    ("health", "told"),
    [
        ([{}], "KeyError"),
        ([3], "TypeError"),
        ("text", "TypeError"),
        ([reading(ages=[1, 2])], "ValueError"),
        ([reading(scores={"loss": [1, 2]})], "ValueError"),
        ([reading(scores=[1])], "AttributeError"),
        ([reading(stale="much")], "ValueError"),
        ([reading(), reading()], "another length"),
    ],
)
def test_a_result_that_is_not_as_written_is_named(tmp_path, health, told):
    with pytest.raises(UserError, match=rf"seed-1.result\.json: .*{told}"):
        memory_section(run_of(tmp_path, [reading()], health))


def keep(directory, rows):
    """As a seed leaves its memory."""
    leave(directory, rows)
    memory_part(directory).rename(directory / "memory.npz")


def rows_of(classes, **columns):
    n = len(classes)
    images = np.arange(n, dtype=np.uint8).repeat(6).reshape(n, 1, 2, 3)
    rows = {"stored": np.array(n), "slot": np.arange(n), "class": np.array(classes)}
    rows |= {name: np.zeros(n) for name in ("label", "task")}
    rows |= {"age": np.arange(n) % 5, "uses": np.arange(n), "image": images}
    return {**rows, **columns}


def numbers_in(part):
    """The images of a strip, each of which is filled with its number."""
    picture = base64.b64decode(part["source"].removeprefix("data:image/png;base64,"))
    pixels = np.array(Image.open(io.BytesIO(picture)))
    scale = memory_page.SHOWN // 3
    assert (part["width"], part["height"]) == (
        scale * pixels.shape[1],
        scale * pixels.shape[0],
    )
    return pixels[0, ::4, 0].tolist()


def test_images_by_class_the_highest_score_first(tmp_path, drawn):
    score = np.array([0.1, 0.5, np.nan, 0.9, 0.2, 0.3])
    keep(
        tmp_path / "seed-1",
        rows_of(list("babaab"), score_loss=-score, score_mixed=score),
    )
    run = run_of(tmp_path, [reading()], [reading()])
    sheet = memory_section(run)["sheet"]
    assert (sheet["seed"], sheet["shown"], sheet["stored"]) == (1, 6, 6)
    assert sheet["order"] == "mixed"
    a, b = sheet["strips"]
    assert (a["class"], a["rows"]) == ("a", 3)
    assert numbers_in(a) == [3, 1, 4]
    assert a["medians"] == ["3", "3", "0.50"]
    assert numbers_in(b) == [5, 0, 2]  # a stale row last
    assert b["medians"] == ["0", "2", "0.20"]


def test_without_scores_the_oldest_first(tmp_path, drawn):
    keep(tmp_path / "seed-0", rows_of(["10", "2", "10", "2", "10", "2", "2"]))
    sheet = memory_section(run_of(tmp_path, [reading(scores={})]))["sheet"]
    assert sheet["order"] == "age"
    assert [part["class"] for part in sheet["strips"]] == ["2", "10"]
    assert numbers_in(sheet["strips"][0]) == [3, 1, 6, 5]
    assert sheet["strips"][1]["medians"] == ["2", "2"]


def test_a_memory_of_no_images_has_no_sheet(tmp_path, drawn):
    rows = rows_of(["a", "b"])
    del rows["image"]
    keep(tmp_path / "seed-0", rows)
    assert memory_section(run_of(tmp_path, [reading()]))["sheet"] is None


def test_a_file_that_cannot_be_read_is_named(tmp_path, drawn):
    (tmp_path / "seed-0").mkdir()
    (tmp_path / "seed-0" / "memory.npz").write_text("no archive")
    with pytest.raises(UserError, match=r"seed-0.memory\.npz cannot be read"):
        memory_section(run_of(tmp_path, [reading()]))
