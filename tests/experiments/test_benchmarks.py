"""experiments/benchmarks.py: rows, labels and order against plain selections."""

import numpy as np
import pytest
import torch

from experiments import benchmarks
from experiments.data import class_groups, from_arrays

CLASSES = np.array([3, 4, 6, 7, 8, 9])
SCENARIOS = ["class", "domain", "task"]


@pytest.fixture(scope="module")
def arrays():
    draw = np.random.default_rng(0)

    def part(n):
        labels = np.concatenate([CLASSES, draw.choice(CLASSES, n - len(CLASSES))])
        return draw.integers(0, 255, (n, 4, 5), dtype=np.uint8), draw.permuted(labels)

    return from_arrays(*part(90), *part(40), source="test")


@pytest.fixture(scope="module")
def groups(arrays):
    return class_groups(arrays, 3, "test")


def rows_of(x, y, group):
    """The oracle: the rows of some classes in the order of the array."""
    chosen = [i for i in range(len(y)) if y[i] in group]
    return x[chosen], y[chosen]


def loaded(dataset):
    items = [dataset[i] for i in range(len(dataset))]
    x = torch.stack([item[0] for item in items])
    others = [torch.tensor([int(item[k]) for item in items]) for k in (1, -1)]
    return x, *others


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("part", ["train", "test"])
def test_each_experience_has_the_rows_of_its_classes(arrays, groups, scenario, part):
    benchmark = benchmarks.build(arrays, groups, scenario)
    x, y = getattr(arrays, f"x_{part}"), getattr(arrays, f"y_{part}")
    stream = getattr(benchmark, part)
    assert stream.name == part
    assert benchmark.classes == [[3, 4], [6, 7], [8, 9]]
    for t, experience in enumerate(stream):
        chosen, labels = rows_of(x, y, groups[t])
        if scenario != "class":
            labels = labels - 2 * t
        dataset = experience.dataset
        items = loaded(dataset)
        np.testing.assert_array_equal(
            items[0], chosen.astype(np.float32) / np.float32(255)
        )
        np.testing.assert_array_equal(items[1], labels)
        assert list(dataset.targets) == labels.tolist()
        assert experience.current_experience == t
        assert set(experience.classes_in_this_experience) == set(labels.tolist())
        assert hasattr(experience, "task_labels") == (scenario == "task")
        if scenario == "task":
            assert len(dataset[0]) == 3
            assert items[2].unique().tolist() == [t]
            assert experience.task_labels == [t]
            assert experience.task_label == t
        else:
            assert len(dataset[0]) == 2


def test_what_a_model_must_fit(arrays, groups):
    tasks = [benchmarks.build(arrays, groups, s).task for s in SCENARIOS]
    assert tasks == [((1, 4, 5), 6, 0), ((1, 4, 5), 2, 0), ((1, 4, 5), 2, 3)]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_joint_data_are_those_of_all_experiences(arrays, groups, scenario):
    own = benchmarks.build(arrays, groups, scenario)
    benchmark = benchmarks.build(arrays, groups, scenario, "all")
    (experience,) = benchmark.train
    parts = [loaded(e.dataset) for e in own.train]
    for found, *expected in zip(loaded(experience.dataset), *parts, strict=True):
        torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=0)
    assert len(benchmark.test) == 3
    if scenario == "task":
        assert experience.task_labels == [0, 1, 2]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_cumulative_data_are_those_met_so_far(arrays, groups, scenario):
    own = benchmarks.build(arrays, groups, scenario)
    parts = [loaded(e.dataset) for e in own.train]
    stream = benchmarks.build(arrays, groups, scenario, "seen").train
    assert len(stream) == 3
    for t, experience in enumerate(stream):
        met = parts[: t + 1]
        for found, *expected in zip(loaded(experience.dataset), *met, strict=True):
            torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=0)


def test_rows_are_kept_once(arrays, groups):
    """Experiences are views of one copy, also where they overlap."""
    stream = benchmarks.build(arrays, groups, "class", "seen").train
    places = set()
    for experience in stream:
        leaf = experience.dataset._flat_data
        while not hasattr(leaf, "tensors"):
            (leaf,) = leaf._datasets
        assert leaf.tensors[0].dtype == torch.uint8
        places.add(leaf.tensors[0].untyped_storage().data_ptr())
    assert len(places) == 1


def test_floating_inputs_are_not_transformed(arrays, groups):
    floats = from_arrays(
        *(arrays.x_train.astype(np.float32), arrays.y_train),
        *(arrays.x_test.astype(np.float32), arrays.y_test),
        source="test",
    )
    dataset = benchmarks.build(floats, groups, "class").train[0].dataset
    chosen, _ = rows_of(floats.x_train, floats.y_train, groups[0])
    np.testing.assert_array_equal(loaded(dataset)[0], chosen)


def test_building_draws_no_random_number(arrays, groups):
    before = torch.get_rng_state()
    benchmarks.build(arrays, groups, "task", "seen")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("data", ["own", "all"])
@pytest.mark.parametrize("size", [7, 1, 1000])
def test_online_streams_have_every_row_once(arrays, groups, scenario, data, size):
    experience = benchmarks.build(arrays, groups, scenario, data).train[-1]
    parts = list(benchmarks.online(experience, size, seed=3))
    total = len(experience.dataset)
    assert [len(p.dataset) for p in parts[:-1]] == [size] * (
        total // size - (total % size == 0)
    )
    found = [loaded(p.dataset) for p in parts]
    joined = [
        torch.cat(column).flatten(1) if column[0].ndim > 1 else torch.cat(column)
        for column in zip(*found, strict=True)
    ]
    expected = loaded(experience.dataset)

    def keys(x, y, task):
        return sorted(
            map(tuple, torch.cat([x.flatten(1), y[:, None], task[:, None]], 1).tolist())
        )

    assert keys(*joined) == keys(*expected)
    assert size == 1000 or not torch.equal(joined[1], expected[1])


def test_online_sub_experiences_say_what_the_scenario_lets_them(arrays, groups):
    for scenario in SCENARIOS:
        experience = benchmarks.build(arrays, groups, scenario).train[1]
        parts = list(benchmarks.online(experience, 8, seed=0))
        known = scenario == "task"
        for k, part in enumerate(parts):
            assert part.access_task_boundaries == known
            assert hasattr(part, "task_labels") == known
            assert part.origin_experience.current_experience == 1
            assert part.is_first_subexp == (k == 0)
            assert part.is_last_subexp == (k == len(parts) - 1)
            assert part.classes_in_this_experience == (
                experience.classes_in_this_experience
            )


def test_the_last_sub_experience_is_marked_where_sizes_divide_evenly(arrays, groups):
    experience = benchmarks.build(arrays, groups, "class").train[0]
    size = len(experience.dataset)
    (only,) = benchmarks.online(experience, size, seed=0)
    assert only.is_last_subexp


def test_the_seed_decides_the_online_order_alone(arrays, groups):
    experience = benchmarks.build(arrays, groups, "class").train[0]

    def order(seed):
        torch.rand(1)
        parts = benchmarks.online(experience, 5, seed)
        return torch.cat([loaded(p.dataset)[0] for p in parts])

    assert torch.equal(order(1), order(1))
    assert not torch.equal(order(1), order(2))
