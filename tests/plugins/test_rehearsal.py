"""avalanche_ext/plugins/rehearsal.py: a plain loop with a list for a memory."""

from dataclasses import dataclass

import pytest
import torch
from avalanche.benchmarks.scenarios.dataset_scenario import DatasetExperience
from avalanche.benchmarks.scenarios.online import split_online_stream
from avalanche.benchmarks.utils import (
    DataAttribute,
    TransformGroups,
    make_avalanche_dataset,
)
from avalanche.benchmarks.utils.data_attribute import TaskLabels
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.models import IncrementalClassifier
from avalanche.training.plugins import ReplayPlugin, SupervisedPlugin
from avalanche.training.supervised import Naive
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from avalanche_ext import (
    LeanEvaluationPlugin,
    MultiStrategyBuffer,
    RehearsalPlugin,
    ResidentDataPlugin,
    class_balanced_replay,
    er_ring,
    reservoir_replay,
)


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 8))


def strategy(plugins, model=None, epochs=1, criterion=None, **options):
    model = model or network()
    return Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), 0.05),
        criterion=criterion or nn.CrossEntropyLoss(),
        train_mb_size=8,
        train_epochs=epochs,
        plugins=plugins,
        evaluator=LeanEvaluationPlugin(),
        **options,
    )


def written_out(benchmark, memory, batch_size_mem, epochs, every_epoch, weights):
    """Experience replay with a list for a memory, told slots and draws by ``memory``."""
    model, criterion, rows = network(), nn.CrossEntropyLoss(), {}
    for number, experience in enumerate(benchmark.train_stream, start=1):
        loader = DataLoader(experience.dataset.train(), batch_size=8, shuffle=True)
        for epoch in range(epochs):
            for x, y in loader:
                model.zero_grad()
                if rows and batch_size_mem:
                    drawn = [
                        rows[i]
                        for i in memory.draw(min(batch_size_mem, len(rows))).tolist()
                    ]
                    memory_x = torch.stack([row[0] for row in drawn])
                    memory_y = torch.stack([row[1] for row in drawn])
                    if weights is None:
                        loss = criterion(
                            model(torch.cat((x, memory_x))), torch.cat((y, memory_y))
                        )
                    else:
                        c, r = weights(number)
                        output = model(torch.cat((x, memory_x)))
                        loss = c * criterion(output[: len(y)], y)
                        loss = loss + r * criterion(output[len(y) :], memory_y)
                else:
                    loss = criterion(model(x), y)
                loss.backward()
                with torch.no_grad():
                    for parameter in model.parameters():
                        parameter -= 0.05 * parameter.grad
                if epoch == 0 or every_epoch:
                    slots = memory.add(x, y).tolist()
                    for position, slot in enumerate(slots):
                        if slot >= 0:
                            rows[slot] = (x[position], y[position])
    return model


@pytest.mark.parametrize("weights", [None, lambda k: (1 / k, 1 - 1 / k)])
@pytest.mark.parametrize("feed", ["first_epoch", "every_epoch"])
@pytest.mark.parametrize("batch_size_mem", [0, 5])
def test_training_equals_the_written_out_loop(
    class_stream, weights, feed, batch_size_mem
):
    benchmark = class_stream(scale=False)
    buffer = MultiStrategyBuffer(20, seed=0)
    trained = strategy(
        [RehearsalPlugin(buffer, batch_size_mem, feed=feed, loss_weights=weights)],
        epochs=2,
    )
    for experience in benchmark.train_stream:
        trained.train(experience, eval_streams=[])
    expected = written_out(
        benchmark,
        MultiStrategyBuffer(20, seed=0),
        batch_size_mem,
        2,
        feed == "every_epoch",
        weights,
    )
    for a, b in zip(trained.model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


class Watch(SupervisedPlugin):
    """Notes what a plugin after rehearsal sees."""

    def __init__(self, rehearsal):
        super().__init__()
        self.rehearsal, self.batches, self.criteria = rehearsal, [], []

    def before_backward(self, strategy, **kwargs):
        self.batches.append((strategy.mb_x, strategy.mb_y, self.rehearsal.mask))
        self.criteria.append(strategy._criterion)


def test_the_mask_tells_memory_rows_from_current_ones(class_stream):
    benchmark = class_stream(scale=False)
    plugin = reservoir_replay(15, batch_size_mem=4, seed=0)
    watch = Watch(plugin)
    trained = strategy([plugin, watch])
    met = torch.zeros(0, 1, 8, 8)
    for experience in benchmark.train_stream:
        start = len(watch.batches)
        trained.train(experience, eval_streams=[])
        own = torch.stack([x for x, _ in experience.dataset])
        for x, y, mask in watch.batches[start:]:
            assert len(x) == len(y) == len(mask)
            assert (~mask).sum() == 8
            assert mask.tolist() == sorted(mask.tolist())  # memory rows come after
            for row in x[~mask]:
                assert (own == row).flatten(1).all(1).any()
            for row in x[mask]:
                assert (torch.cat((met, own)) == row).flatten(1).all(1).any()
        met = torch.cat((met, own))
    sizes = [int(mask.sum()) for _, _, mask in watch.batches]
    assert sizes[0] == 0
    assert set(sizes[1:]) == {4}
    assert plugin.replayed == sum(sizes)


def test_the_criterion_is_given_back(class_stream):
    criterion = nn.CrossEntropyLoss()
    plugin = reservoir_replay(15, batch_size_mem=4, seed=0, loss_weights=(0.5, 2.0))
    watch = Watch(plugin)
    trained = strategy([plugin, watch], criterion=criterion)
    trained.train(class_stream().train_stream[0], eval_streams=[])
    assert all(seen is criterion for seen in watch.criteria)
    assert trained._criterion is criterion


def test_the_criterion_is_given_back_after_an_iteration_cut_short(class_stream):
    class Fail(SupervisedPlugin):
        def after_forward(self, strategy, **kwargs):
            if strategy.clock.train_iterations == 2:
                raise RuntimeError("cut short")

    criterion = nn.CrossEntropyLoss()
    plugin = reservoir_replay(15, batch_size_mem=4, seed=0, loss_weights=(0.5, 2.0))
    trained = strategy([plugin, fail := Fail()], criterion=criterion)
    with pytest.raises(RuntimeError, match="cut short"):
        trained.train(class_stream().train_stream[0], eval_streams=[])
    trained.plugins.remove(fail)
    trained.train(class_stream().train_stream[0], eval_streams=[])
    assert trained._criterion is criterion


@pytest.mark.parametrize("kind", ["all", "current"])
def test_training_metrics_see_the_rows_asked_for(class_stream, kind):
    plugin = reservoir_replay(15, batch_size_mem=4, seed=0, train_metrics=kind)
    seen = []

    class Count(SupervisedPlugin):
        def after_training_iteration(self, strategy, **kwargs):
            seen.append(
                (len(strategy.mb_x), len(strategy.mb_y), len(strategy.mb_output))
            )

    trained = strategy([plugin, Count()])
    trained.evaluator.metrics += accuracy_metrics(minibatch=True)
    trained.train(class_stream().train_stream[0], eval_streams=[])
    rows = 12 if kind == "all" else 8
    assert set(seen[1:]) == {(rows, rows, rows)}


def test_feeding_whole_experiences(class_stream):
    plugin = reservoir_replay(15, batch_size_mem=4, seed=0, feed="experience")
    trained = strategy([plugin])
    stream = class_stream().train_stream
    trained.train(stream[0], eval_streams=[])
    assert plugin.replayed == 0
    assert plugin.buffer.seen == 40
    trained.train(stream[1], eval_streams=[])
    assert plugin.replayed == 5 * 4
    assert set(plugin.buffer.class_counts()) <= {0, 1, 2, 3}
    assert plugin.buffer.table.column("x").dtype == torch.uint8


def test_stored_rows_are_augmented_anew(class_stream):
    class Flip:
        calls = 0

        def __call__(self, rows):
            self.calls += 1
            return rows.flip(-1)

    flip = Flip()
    plugin = reservoir_replay(15, batch_size_mem=4, seed=0, transform=flip)
    watch = Watch(plugin)
    trained = strategy([plugin, watch])
    experience = class_stream(scale=False).train_stream[0]
    trained.train(experience, eval_streams=[])
    own = torch.stack([x for x, _ in experience.dataset])
    assert flip.calls == len(watch.batches) - 1
    for x, _, mask in watch.batches:
        for row in x[mask]:
            assert (own.flip(-1) == row).flatten(1).all(1).any()


def test_each_sample_is_offered_once_and_none_at_evaluation(class_stream):
    benchmark = class_stream()
    plugin = reservoir_replay(15, seed=0)
    trained = strategy([plugin], epochs=3, eval_every=1)
    for experience in benchmark.train_stream:
        trained.train(experience, eval_streams=[benchmark.test_stream])
    assert plugin.buffer.seen == 4 * 40


def test_weights_by_experience_on_online_streams(class_stream):
    met = []

    def weights(k):
        met.append(k)
        return 1 / k, 1 - 1 / k

    stream = class_stream().train_stream
    plugin = reservoir_replay(15, batch_size_mem=4, seed=0, loss_weights=weights)
    trained = strategy([plugin])
    with pytest.raises(ValueError, match="access_task_boundaries=True"):
        trained.train(split_online_stream(stream, 20), eval_streams=[])
    trained.train(
        split_online_stream(stream, 20, access_task_boundaries=True), eval_streams=[]
    )
    assert met == [1, 1, 2, 2, 3, 3, 4, 4]


def test_growing_heads_and_online_streams(class_stream):
    model = nn.Sequential(nn.Flatten(), IncrementalClassifier(64, 2))
    plugin = class_balanced_replay(16, batch_size_mem=4, seed=0)
    trained = strategy([plugin], model)
    stream = split_online_stream(
        class_stream().train_stream, 8, access_task_boundaries=True
    )
    trained.train(stream, eval_streams=[])
    assert model[1].classifier.out_features == 8
    assert plugin.buffer.class_counts() == dict.fromkeys(range(8), 2)


class Dictionary(dict):
    """Nested inputs with the method that Avalanche's template needs of a batch."""

    def to(self, *args, **kwargs):
        return Dictionary({k: v.to(*args, **kwargs) for k, v in self.items()})


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 8)

    def forward(self, x):
        return self.layer(x["image"].flatten(1)) * x["gain"]


def test_nested_inputs(class_stream):
    class Nest(SupervisedPlugin):
        def before_training_iteration(self, strategy, **kwargs):
            image, *rest = strategy.mbatch
            gain = torch.ones(len(image), 1)
            strategy.mbatch = [Dictionary(image=image, gain=gain), *rest]

    plugin = er_ring(16, batch_size_mem=4, seed=0)
    trained = strategy([Nest(), plugin], TwoInputs())
    for experience in class_stream().train_stream:
        trained.train(experience, eval_streams=[])
    assert set(plugin.buffer.sample(3)["x"].keys()) == {"image", "gain"}
    assert plugin.replayed


def test_bad_input():
    buffer = MultiStrategyBuffer(8, seed=0)
    with pytest.raises(ValueError, match=r"batch_size_mem=10 must lie in 0 … 8"):
        RehearsalPlugin(buffer, 10)
    with pytest.raises(ValueError, match="batch_size_mem=-1"):
        RehearsalPlugin(buffer, -1)
    for weights in (3, (1, 2, 3), (-1, 2)):
        with pytest.raises(ValueError, match="loss_weights must be two numbers"):
            RehearsalPlugin(buffer, 4, loss_weights=weights)
    with pytest.raises(ValueError, match="unknown feed 'often': choose one of"):
        RehearsalPlugin(buffer, 4, feed="often")
    with pytest.raises(ValueError, match="unknown train_metrics 'some'"):
        RehearsalPlugin(buffer, 4, train_metrics="some")


def test_a_memory_serves_streams_of_one_form(class_stream):
    plugin = reservoir_replay(15, batch_size_mem=4, seed=0)
    strategy([plugin]).train(class_stream().train_stream[0], eval_streams=[])
    with pytest.raises(
        ValueError, match=r"3 items and the memory's rows lack \['task'\]"
    ):
        strategy([plugin]).train(
            class_stream(tasks=True).train_stream[0], eval_streams=[]
        )


def test_a_template_without_the_callbacks_is_named(class_stream):
    class Bare(Naive):
        def training_epoch(self, **kwargs):
            """A loop of its own that calls no plugin."""

    model = network()
    trained = Bare(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
        criterion=nn.CrossEntropyLoss(),
        plugins=[reservoir_replay(15, seed=0)],
        evaluator=LeanEvaluationPlugin(),
    )
    with pytest.warns(UserWarning, match="Bare never calls before_forward"):
        trained.train(class_stream().train_stream[0], eval_streams=[])


@pytest.mark.parametrize("preset", [er_ring, class_balanced_replay])
@pytest.mark.parametrize("feed", ["first_epoch", "experience"])
def test_labels_from_zero_in_each_task_are_classes_of_their_own(preset, feed):
    buffer = preset(12, seed=0).buffer
    for task in range(3):
        x, y = torch.zeros(40, 1), torch.arange(40) % 2
        if feed == "first_epoch":
            buffer.add(x, y, torch.full((40,), task))
        else:
            attributes = [DataAttribute(y.tolist(), "targets"), TaskLabels([task] * 40)]
            dataset = make_avalanche_dataset(
                TensorDataset(x, y), data_attributes=attributes
            )
            buffer.post_adapt(None, DatasetExperience(dataset=dataset))
    pairs = torch.stack((buffer.table.column("task"), buffer.table.column("y")), 1)
    found, counts = pairs.unique(dim=0, return_counts=True)
    assert len(found) == 6
    assert set(counts.tolist()) == {2}


@dataclass(frozen=True)
class Permute:
    """A task of permuted images: deterministic, and another one each time."""

    seed: int
    batched = True

    def __call__(self, x):
        order = torch.randperm(64, generator=torch.Generator().manual_seed(self.seed))
        return x.flatten(-3)[..., order].view(x.shape).div(255)


def permuted(class_stream, same=False):
    stream = class_stream(scale=False).train_stream
    experiences = []
    for number, experience in enumerate(stream):
        x = torch.stack([(row * 255).round() for row, _ in experience.dataset]).to(
            torch.uint8
        )
        y = torch.tensor([int(target) for _, target in experience.dataset])
        step = Permute(0 if same else number)
        dataset = make_avalanche_dataset(
            TensorDataset(x, y),
            data_attributes=[DataAttribute(y.tolist(), "targets")],
            transform_groups=TransformGroups({"train": step, "eval": step}),
        )
        experiences.append(
            DatasetExperience(dataset=dataset, current_experience=number)
        )
    return experiences


@pytest.mark.parametrize("feed", ["first_epoch", "experience"])
@pytest.mark.parametrize("same", [False, True])
def test_rows_keep_the_transform_that_they_came_with(class_stream, feed, same):
    trained, plugins = [], []
    for resident in ([], [ResidentDataPlugin()]):
        plugin = reservoir_replay(20, batch_size_mem=4, seed=0, feed=feed)
        trained.append(strategy([plugin, *resident]))
        plugins.append(plugin)
        torch.manual_seed(5)
        for experience in permuted(class_stream, same):
            trained[-1].train(experience, eval_streams=[])
    for a, b in zip(
        trained[0].model.parameters(), trained[1].model.parameters(), strict=True
    ):
        assert torch.equal(a, b)
    kept = plugins[1].buffer.table.column("x").dtype
    assert kept == (torch.uint8 if same else torch.float32)


def test_a_loaded_memory_refuses_another_transform(class_stream):
    first, second = permuted(class_stream)[:2]
    plugin = reservoir_replay(20, batch_size_mem=4, seed=0)
    strategy([plugin, ResidentDataPlugin()]).train(first, eval_streams=[])
    state = plugin.buffer.state_dict()

    def go_on(experience, **options):
        loaded = reservoir_replay(20, batch_size_mem=4, seed=0, **options)
        loaded.buffer.load_state_dict(state)
        assert loaded.buffer.state_dict()["before"] == state["before"]
        strategy([loaded, ResidentDataPlugin()]).train(experience, eval_streams=[])
        return loaded.buffer.table.column("x").dtype

    assert go_on(first) == torch.uint8
    assert go_on(second, transform=Permute(0)) == torch.uint8
    with pytest.raises(
        ValueError, match=r"before another transform than Chain.*give Rehearsal"
    ):
        go_on(second)


# --- items of a minibatch -----------------------------------------------------------


def with_items(class_stream, tasks, noise=False):
    """Streams whose leaf gives ``(x, y, number of the row)``, with task labels or not.

    :param noise: the third item is a fraction instead.
    """
    experiences = []
    for number, experience in enumerate(class_stream(scale=False).train_stream):
        x = torch.stack([row for row, _ in experience.dataset])
        y = torch.tensor([int(target) for _, target in experience.dataset])
        extra = torch.arange(len(y)) + 100 * number
        attributes = [DataAttribute(y.tolist(), "targets")]
        if tasks:
            attributes.append(TaskLabels([number] * len(y)))
        dataset = make_avalanche_dataset(
            TensorDataset(x, y, extra / 1000 if noise else extra),
            data_attributes=attributes,
        )
        experiences.append(
            DatasetExperience(dataset=dataset, current_experience=number)
        )
    return experiences


class Items(SupervisedPlugin):
    """Keeps every minibatch that the loss is made of."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def before_backward(self, strategy, **kwargs):
        self.batches.append(list(strategy.mbatch))


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("tasks", [False, True])
@pytest.mark.parametrize("feed", ["first_epoch", "experience"])
@pytest.mark.parametrize("make", [reservoir_replay, er_ring])
def test_further_items_are_kept_and_replayed(class_stream, make, feed, tasks, noise):
    """Whichever way the memory is fed, and they are no task labels."""
    plugin = make(16, batch_size_mem=4, seed=0, feed=feed)
    items = Items()
    experiences = with_items(class_stream, tasks, noise)
    trained = strategy([plugin, items])
    for experience in experiences:
        trained.train(experience, eval_streams=[])
    rows = {}
    for experience in experiences:
        for x, y, extra, *task in experience.dataset:
            rows[float(extra)] = (x, int(y), *map(int, task))
    assert len(rows) == 160
    assert plugin.replayed
    for x, y, extra, *task in items.batches:
        for i in range(len(y)):
            own = (x[i], int(y[i]), *(int(t[i]) for t in task))
            expected = rows[float(extra[i])]
            assert torch.equal(own[0], expected[0])
            assert own[1:] == expected[1:]
    columns = {"x", "y", "item2", "arrival", "uses"} | ({"task"} if tasks else set())
    assert set(plugin.buffer.table.columns) == columns
    for x, y, extra, *task in plugin.buffer.buffer:
        expected = rows[float(extra)]
        assert torch.equal(x, expected[0])
        assert (int(y), *map(int, task)) == expected[1:]
    if make is er_ring:  # each class has its share, whatever its rows are numbered
        keys = [(c // 2, c) if tasks else c for c in range(8)]
        assert plugin.buffer.class_counts() == dict.fromkeys(keys, 2)


def test_further_items_in_upstreams_replay_plugin(class_stream):
    buffer = MultiStrategyBuffer(16, seed=0)
    items = Items()
    trained = strategy([ReplayPlugin(16, storage_policy=buffer), items])
    for experience in with_items(class_stream, tasks=False):
        trained.train(experience, eval_streams=[])
    assert all(len(batch) == 3 for batch in items.batches)
    numbers = torch.cat([extra for _, _, extra in items.batches[-5:]])
    assert (numbers < 300).any()
    assert (numbers >= 300).any()


@pytest.mark.parametrize("feed", ["first_epoch", "experience"])
def test_task_labels_that_are_not_the_last_item_are_refused(class_stream, feed):
    x, y = torch.zeros(16, 1, 8, 8), torch.arange(16) % 2
    dataset = make_avalanche_dataset(
        TensorDataset(x, y),
        data_attributes=[
            DataAttribute(y.tolist(), "targets"),
            TaskLabels([0] * 16),
            DataAttribute(torch.rand(16), "weight", use_in_getitem=True),
        ],
    )
    experience = DatasetExperience(dataset=dataset, current_experience=0)
    plugin = reservoir_replay(16, batch_size_mem=4, seed=0, feed=feed)
    with pytest.raises(ValueError, match=r"float.*task labels the last") as error:
        strategy([plugin]).train(experience, eval_streams=[])
    assert "\n" not in str(error.value)
    assert plugin.buffer.seen == 0
    with pytest.raises(ValueError, match=r"float.*task labels the last"):
        plugin.buffer.post_adapt(None, experience)


class OneHot(SupervisedPlugin):
    def before_training_iteration(self, strategy, **kwargs):
        strategy.mbatch[1] = nn.functional.one_hot(strategy.mb_y, 8).float()


def test_one_hot_targets(class_stream):
    stream = class_stream().train_stream
    plugin = reservoir_replay(16, batch_size_mem=4, seed=0)
    strategy([OneHot(), plugin]).train(stream[0], eval_streams=[])
    assert plugin.buffer.table.column("y").shape == (16, 8)
    for preset in (er_ring, class_balanced_replay):
        plugin = preset(16, batch_size_mem=4, seed=0)
        with pytest.raises(ValueError, match=r"\(8, 8\).*argmax.*'reservoir'"):
            strategy([OneHot(), plugin]).train(stream[0], eval_streams=[])


# --- what would have no effect, and what cannot be ----------------------------------


class OwnLoss(Naive):
    """Overrides the criterion, using the one given or not."""

    uses = False

    def criterion(self):
        if self.uses:
            return 2 * super().criterion()
        return nn.functional.cross_entropy(self.mb_output, self.mb_y)


def own_loss(plugins, uses):
    made = type("OwnLoss", (OwnLoss,), {"uses": uses})
    model = network()
    return made(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), 0.05),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=8,
        plugins=plugins,
        evaluator=LeanEvaluationPlugin(),
    )


def test_loss_weights_that_have_no_effect_are_told_once(class_stream):
    stream = class_stream().train_stream
    plugin = reservoir_replay(15, batch_size_mem=4, seed=0, loss_weights=(0.5, 2.0))
    trained = own_loss([plugin], uses=False)
    with pytest.warns(UserWarning, match=r"no effect: OwnLoss\.criterion\(\)") as told:
        trained.train(stream[:2], eval_streams=[])
    assert len(told) == 1
    own_loss(  # where it is used, nothing is said: warnings are errors here
        [reservoir_replay(15, batch_size_mem=4, seed=0, loss_weights=(0.5, 2.0))],
        uses=True,
    ).train(stream[0], eval_streams=[])
    own_loss([reservoir_replay(15, batch_size_mem=4, seed=0)], uses=False).train(
        stream[0], eval_streams=[]
    )


def test_weights_are_not_wound_around_each_other(class_stream):
    """A template may leave out before_backward: the next step starts anew."""

    class Leaves(Naive):
        def _before_backward(self, **kwargs):
            seen.append(self._criterion)

    seen = []
    model = network()
    criterion = nn.CrossEntropyLoss()
    plugin = reservoir_replay(15, batch_size_mem=4, seed=0, loss_weights=(0.5, 2.0))
    Leaves(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), 0.05),
        criterion=criterion,
        train_mb_size=8,
        plugins=[plugin],
        evaluator=LeanEvaluationPlugin(),
    ).train(class_stream().train_stream[0], eval_streams=[])
    assert len(seen) == 5
    assert all(weighted.criterion is criterion for weighted in seen[1:])


@pytest.mark.parametrize("buffer", [50, None, []])
def test_what_is_no_memory_is_refused(buffer):
    with pytest.raises(TypeError, match="needs a MultiStrategyBuffer, got") as error:
        RehearsalPlugin(buffer)
    assert repr(buffer) in str(error.value)


def test_what_it_is_can_be_read(class_stream):
    plugin = er_ring(12, batch_size_mem=4, seed=0, feed="every_epoch")
    strategy([plugin]).train(class_stream().train_stream[0], eval_streams=[])
    assert repr(plugin) == (
        "RehearsalPlugin(batch_size_mem=4, feed='every_epoch', replayed=16, buffer="
        "MultiStrategyBuffer(max_size=12, admission='ring', sampling='uniform', "
        "stored=12, seen=40))"
    )
    assert "per_class=3" in repr(er_ring(per_class=3).buffer)
