"""avalanche_ext/features.py and undisturbed.py: what the last layer is given."""

import copy

import pytest
import torch
from avalanche.models import (
    IncrementalClassifier,
    MTSimpleMLP,
    MultiHeadClassifier,
    MultiTaskModule,
    SimpleMLP,
    avalanche_forward,
)
from avalanche.models.dynamic_modules import avalanche_model_adaptation
from model_traces import Experience, assert_same_traces, multi_head, traces
from tensordict import TensorDict
from torch import nn
from torch.nn.functional import dropout

from avalanche_ext.features import features, outputs_and_features, watching_features
from avalanche_ext.undisturbed import undisturbed


def by_single_rows(model, x, task, layer):
    """The oracle: a deep copy in evaluation mode, and a row at a time."""
    model = copy.deepcopy(model).eval()
    seen: list[torch.Tensor] = []
    dict(model.named_modules())[layer].register_forward_pre_hook(
        lambda module, args: seen.append(args[0].clone())
    )
    with torch.no_grad():
        for i in range(len(x)):
            row = None if task is None else task[i : i + 1]
            avalanche_forward(model, x[i : i + 1], row)
    return torch.cat([value.flatten(1) for value in seen])


class WholeSplit(MultiTaskModule):
    """Rows are shared out before the trunk, as upstream's default forward does."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(16, 8)
        self.heads = nn.ModuleDict({str(t): nn.Linear(8, 6) for t in range(3)})

    def forward_single_task(self, x, task_label):
        return self.heads[str(task_label)](self.trunk(x.flatten(1)).relu())


class ActiveHeads(MultiTaskModule):
    """Heads behind a common activation in place: the layer's own input is its output."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(16, 8)
        self.classifier = MultiHeadClassifier(8)

    def forward(self, x, task_labels):
        return self.classifier(self.trunk(x.flatten(1)).relu_(), task_labels)


class Norm(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 3, 3),
            nn.BatchNorm2d(3),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(12, 4),
        )


SINGLE = {
    "mlp": (lambda: SimpleMLP(10, 16, 12), "classifier"),
    "mlp, two hidden": (lambda: SimpleMLP(10, 16, 12, 2), "classifier"),
    "batch norm, dropout": (Norm, "5"),
    "linear": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), "1"),
}


@pytest.mark.parametrize(("make", "layer"), SINGLE.values(), ids=SINGLE)
@pytest.mark.parametrize("rows_per_pass", [4, 256])
def test_they_are_those_of_single_rows(make, layer, rows_per_pass):
    torch.manual_seed(1)
    model, x = make(), torch.rand(11, 1, 4, 4)
    model.train()(x)  # running statistics that are not the initial ones
    expected = by_single_rows(model, x, None, layer)
    before = traces(model)
    found = features(model, x, rows_per_pass=rows_per_pass)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(features(model, x, layer=layer), expected)
    assert_same_traces(model, before)


@pytest.mark.parametrize("kind", [lambda: MTSimpleMLP(16, 12), WholeSplit, ActiveHeads])
@pytest.mark.parametrize("tasks", [[0, 2, 1, 0, 0, 2, 1], [1] * 7])
def test_rows_of_several_heads_come_in_the_order_of_the_batch(kind, tasks):
    model, x, task = multi_head(kind), torch.rand(7, 1, 4, 4), torch.tensor(tasks)
    model.train()
    with torch.no_grad():
        plain = copy.deepcopy(model).eval()
        rows = [
            avalanche_forward(plain, x[i : i + 1], task[i : i + 1]) for i in range(7)
        ]
        layer = "trunk" if hasattr(plain, "trunk") else "features"
        trunk = getattr(plain, layer)(x.flatten(1)).relu()
    before = traces(model)
    output, found = outputs_and_features(model, x, task)
    torch.testing.assert_close(found, trunk)
    torch.testing.assert_close(output, torch.cat(rows))
    assert_same_traces(model, before)


def test_a_layer_that_meets_a_part_of_the_rows_by_name():
    model, x = multi_head(WholeSplit), torch.rand(5, 1, 4, 4)
    task = torch.tensor([2, 0, 1, 0, 2])
    found = features(model, x, task, layer="trunk")
    torch.testing.assert_close(found, x.flatten(1))


def test_a_head_that_grows_keeps_its_features():
    model = nn.Sequential(
        nn.Linear(5, 4), nn.ReLU(inplace=True), IncrementalClassifier(4)
    )
    x = torch.rand(6, 5)
    before = features(model, x)
    avalanche_model_adaptation(model, Experience(4))
    assert model(x).shape == (6, 10)
    torch.testing.assert_close(features(model, x), before, rtol=0, atol=0)


def test_nested_inputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.last = nn.Embedding(7, 3), nn.Linear(5, 2)

        def forward(self, x):
            words = self.embed(x["text"]["ids"]).mean(1)
            return {"a": [self.last(torch.cat([words, x["extra"]], 1))]}

    model = Two()
    x = {"text": {"ids": torch.randint(7, (9, 4))}, "extra": torch.rand(9, 2)}
    output, found = outputs_and_features(model, x, rows_per_pass=4)
    words = model.embed(x["text"]["ids"]).mean(1)
    torch.testing.assert_close(found, torch.cat([words, x["extra"]], 1).detach())
    torch.testing.assert_close(output["a"][0], model(x)["a"][0].detach())


def test_a_mapping_that_the_memory_stores():
    class Sensors(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(5, 3)

        def forward(self, x):
            return self.last(torch.cat([x["a"], x["b"]], 1))

    x = TensorDict({"a": torch.rand(9, 3), "b": torch.rand(9, 2)}, batch_size=[9])
    found = features(Sensors(), x, rows_per_pass=4)
    torch.testing.assert_close(found, torch.cat([x["a"], x["b"]], 1))


def test_features_that_the_model_changes_afterwards():
    class Changed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            hidden = self.first(x)
            output = self.last(hidden)
            return output + hidden.zero_().sum(1, keepdim=True)

    model, x = Changed(), torch.rand(5, 3)
    torch.testing.assert_close(features(model, x), model.first(x).detach())


def test_numbers_drawn_by_the_model_leave_no_trace():
    class Noisy(nn.Linear):
        def forward(self, x):
            return super().forward(dropout(x))

    model = Noisy(4, 2)
    before = traces(model)
    features(model, torch.rand(3, 4, generator=torch.Generator().manual_seed(0)))
    assert_same_traces(model, before)


@pytest.mark.parametrize(
    "mode", [torch.no_grad, torch.inference_mode, torch.enable_grad]
)
def test_any_mode_of_gradients_around_it(mode):
    model = SimpleMLP(10, 16, 12)
    with mode():
        x = torch.rand(3, 16) * 1
        found = features(model, x)
    assert not found.requires_grad
    torch.testing.assert_close(found, by_single_rows(model, x, None, "classifier"))


def test_features_of_a_training_step_are_those_left_by_dropout():
    torch.manual_seed(0)
    model, x = SimpleMLP(10, 16, 12), torch.rand(8, 16)
    with watching_features(model, 8) as watch:
        output = model(x)
    found = watch.features(8)
    assert found is not None
    torch.testing.assert_close(model.classifier(found), output)
    assert (found == 0).float().mean() > 0.3
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_an_error_leaves_no_trace_either():
    model = SimpleMLP(10, 16, 12)
    model.features[2].eval()
    x = torch.rand(3, 17)
    before = traces(model)
    with pytest.raises(RuntimeError):
        features(model, x)
    assert_same_traces(model, before)


def test_what_gives_no_features_is_refused():
    x = torch.rand(3, 4)
    with pytest.raises(ValueError, match="met no layer to take features from"):
        features(nn.Flatten(), x)
    with pytest.raises(ValueError, match=r"'last' is no layer of Sequential.*\['0'\]"):
        features(nn.Sequential(nn.Linear(4, 2)), x, layer="last")

    class Turned(nn.Linear):
        def forward(self, x):
            return super().forward(x.T).T

    turned = nn.Sequential(Turned(3, 2), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="of the 3 rows: name a layer"):
        features(turned, x)


def test_the_modes_of_each_module_come_back():
    model = Norm().train()
    model[1].eval()
    before = traces(model)
    with undisturbed(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
        torch.rand(3)
    assert_same_traces(model, before)
