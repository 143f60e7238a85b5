"""avalanche_ext/plugins/rehearsal.py: a plain loop with a list for a memory."""

import pytest
import torch
from avalanche.benchmarks.scenarios.online import split_online_stream
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.models import IncrementalClassifier
from avalanche.training.plugins import SupervisedPlugin
from avalanche.training.supervised import Naive
from rehearsed import network, strategy
from torch import nn
from torch.utils.data import DataLoader

from avalanche_ext import (
    LeanEvaluationPlugin,
    MultiStrategyBuffer,
    RehearsalPlugin,
    class_balanced_replay,
    er_ring,
    reservoir_replay,
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
                        for i in memory.draw(
                            min(batch_size_mem, len(rows))
                        ).index.tolist()
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


def test_bad_input():
    buffer = MultiStrategyBuffer(8, seed=0)
    with pytest.raises(ValueError, match=r"batch_size_mem=10 must lie in 0 … 8"):
        RehearsalPlugin(buffer, 10)
    with pytest.raises(
        ValueError, match=r"batch_size_mem must be a whole number.*got -1"
    ):
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
    trained = strategy([plugin])
    trained.train(class_stream().train_stream[0], eval_streams=[])
    with pytest.raises(
        ValueError, match=r"3 items and the memory's rows lack \['task'\]"
    ):
        trained.train(class_stream(tasks=True).train_stream[0], eval_streams=[])


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


IMPORTANCE = "the importance weights of sampling 'priority'"
LEFT_OUT = "leave out loss_weights and weigh by plugin.mask"
PLAIN = "sample by Priority(beta=0), which has none"


@pytest.mark.parametrize(
    ("sampling", "weights", "what", "remedy"),
    [
        ("uniform", (0.5, 2.0), "loss_weights", LEFT_OUT),
        ("priority", None, IMPORTANCE, PLAIN),
        (
            "priority",
            lambda k: (1.0, 1.0),
            f"loss_weights and {IMPORTANCE}",
            f"{LEFT_OUT} and {PLAIN}",
        ),
    ],
)
def test_the_weights_that_have_no_effect_are_named(
    class_stream, sampling, weights, what, remedy
):
    buffer = MultiStrategyBuffer(15, sampling=sampling, seed=0)
    plugin = RehearsalPlugin(buffer, 4, loss_weights=weights)
    trained = own_loss([plugin], uses=False)
    with pytest.warns(UserWarning, match="no effect") as told:
        trained.train(class_stream().train_stream[:2], eval_streams=[])
    (warning,) = map(str, (one.message for one in told))
    assert warning == (
        f"{what} have no effect: OwnLoss.criterion() does not call self._criterion, "
        f"whose loss they weigh: call it there with all rows, or {remedy}"
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
