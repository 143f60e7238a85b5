"""experiments/benchmarks.py: rows, labels and order against plain selections."""

import numpy as np
import pytest
import torch

from avalanche_ext.storage.resident import RowSource
from experiments import benchmarks
from experiments.data import class_groups, from_arrays
from experiments.models import Task
from experiments.pixel_maps import pixel_maps
from experiments.rows import training_portions

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
    single = [((1, 4, 5), 6, 0), ((1, 4, 5), 2, 0), ((1, 4, 5), 2, 3)]
    assert tasks == [Task(*task) for task in single]


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


def test_building_leaves_torchs_generator_alone(arrays, groups):
    before = torch.get_rng_state()
    benchmarks.build(arrays, groups, "task", "seen")
    all_drawn = {"pixels": "permuted", "samples": (9,), "label_noise": 0.2}
    benchmarks.build(arrays, [list(range(6))] * 2, "task", **all_drawn, seed=1)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("pixels", ["permuted", "rotated"])
def test_experiences_of_all_classes_with_their_pixels_moved(arrays, scenario, pixels):
    groups = [list(range(6))] * 3
    benchmark = benchmarks.build(arrays, groups, scenario, pixels=pixels, seed=4)
    assert benchmark.classes == [CLASSES.tolist()] * 3
    shape, heads = (1, 4, 5), 3 if scenario == "task" else 0
    assert benchmark.task == Task(shape, 18 if scenario == "class" else 6, heads)
    maps = pixel_maps(pixels, shape, 3, seed=4)
    for part in ("train", "test"):
        x, y = getattr(arrays, f"x_{part}"), getattr(arrays, f"y_{part}")
        for t, experience in enumerate(getattr(benchmark, part)):
            flat = np.hstack([x.reshape(len(x), -1), np.zeros((len(x), 1), np.uint8)])
            moved = flat[:, maps[t]].reshape(x.shape)  # place −1 is the zero
            items = loaded(experience.dataset)
            np.testing.assert_array_equal(
                items[0], moved.astype(np.float32) / np.float32(255)
            )
            first = 6 * t if scenario == "class" else 0
            np.testing.assert_array_equal(items[1], y + first)
            own = set(range(first, first + 6))
            assert set(experience.classes_in_this_experience) == own


@pytest.mark.parametrize("pixels", ["same", "permuted"])
def test_experiences_share_one_transform_and_rows_of_8_bits(arrays, groups, pixels):
    if pixels != "same":
        groups = [list(range(6))] * 3
    benchmark = benchmarks.build(arrays, groups, "domain", pixels=pixels)
    sources = [RowSource(e.dataset) for e in (*benchmark.train, *benchmark.test)]
    steps = set()
    for source in sources:
        assert source.read(torch.tensor([0]))[0].dtype == torch.uint8
        steps |= set(map(id, source.transform.steps))
    assert len(steps) == 1


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("data", ["own", "seen", "all"])
def test_every_method_meets_the_samples_and_the_noise_of_the_seed(
    arrays, groups, scenario, data
):
    drawn = {"samples": (8, 5, 6), "label_noise": 0.4, "seed": 2}
    train = benchmarks.build(arrays, groups, scenario, data, **drawn).train
    expected = []
    for t, (rows, classes) in enumerate(
        training_portions(arrays.y_train, groups, (8, 5, 6), 0.4, 2)
    ):
        x = arrays.x_train[rows].astype(np.float32) / np.float32(255)
        y = classes if scenario == "class" else classes - 2 * t
        expected.append((torch.from_numpy(x), torch.from_numpy(y)))
    met = {"own": [[0], [1], [2]], "seen": [[0], [0, 1], [0, 1, 2]], "all": [[0, 1, 2]]}
    for experience, parts in zip(train, met[data], strict=True):
        found = loaded(experience.dataset)
        for column in (0, 1):
            joined = torch.cat([expected[t][column] for t in parts])
            torch.testing.assert_close(found[column], joined, rtol=0, atol=0)
        assert list(experience.dataset.targets) == found[1].tolist()


def test_the_order_of_training_rows_is_drawn_where_asked(arrays, groups):
    plain = benchmarks.build(arrays, groups, "class")
    drawn = benchmarks.build(arrays, groups, "class", shuffled=True, seed=2)
    expected = training_portions(arrays.y_train, groups, seed=2, shuffled=True)
    for t, (rows, classes) in enumerate(expected):
        found = loaded(drawn.train[t].dataset)
        x = arrays.x_train[rows].astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(found[0], x)
        np.testing.assert_array_equal(found[1], classes)
        assert not torch.equal(found[0], loaded(plain.train[t].dataset)[0])
        one, other = (loaded(b.test[t].dataset)[0] for b in (plain, drawn))
        assert torch.equal(one, other)


def test_noise_and_samples_leave_the_test_stream_as_it_is(arrays, groups):
    plain = benchmarks.build(arrays, groups, "class").test
    drawn = {"samples": (8,), "label_noise": 0.4}
    other = benchmarks.build(arrays, groups, "class", **drawn).test
    for one, two in zip(plain, other, strict=True):
        for a, b in zip(loaded(one.dataset), loaded(two.dataset), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_rows_carry_their_experience_where_asked(arrays, groups, scenario):
    plain = benchmarks.build(arrays, groups, scenario)
    assert plain.task_labels == (scenario == "task")
    told = benchmarks.build(arrays, groups, scenario, task_labels=True)
    assert told.task_labels
    assert told.task == plain.task  # the model is not told
    for t, (one, two) in enumerate(zip(plain.train, told.train, strict=True)):
        assert two.task_labels == [t]
        items = loaded(two.dataset)
        assert items[2].unique().tolist() == [t]
        for a, b in zip(loaded(one.dataset)[:2], items[:2], strict=True):
            assert torch.equal(a, b)


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
