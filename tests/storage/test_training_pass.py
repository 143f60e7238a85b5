"""avalanche_ext/storage/training_pass.py against one backward pass for each row."""

import pytest
import torch
from torch import nn

from avalanche_ext.plugins.memory_loss import MemoryLoss
from avalanche_ext.storage.criteria import ScoringContext
from avalanche_ext.storage.training_pass import TrainingPass

READS = frozenset({"outputs", "losses", "features", "gradient_norms"})


def network():
    torch.manual_seed(0)
    layers = (nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    return nn.Sequential(nn.Flatten(), *layers)


def told(model, criterion, x, y, n=None, scale=1.0):
    """What a context knows after a training step under ``criterion``."""
    n = len(y) if n is None else n
    step = TrainingPass()
    step.begin(model, len(y), READS)
    output = model(x)
    step.forwarded(output)
    (scale * criterion(output, y)).backward()
    step.end()
    rows = {"x": x[:n], "y": y[:n]}
    context = ScoringContext(model=model, loss=nn.CrossEntropyLoss())
    step.tell(context, rows, n)
    return {name: context.known(rows, name) for name in READS}


def one_by_one(model, loss, x, y):
    norms = []
    for i in range(len(y)):
        model.zero_grad()
        loss(model(x[i : i + 1]), y[i : i + 1]).backward()
        squares = [p.grad.square().sum() for p in model.parameters()]
        norms.append(torch.stack(squares).sum().sqrt())
    return torch.stack(norms)


def batch():
    torch.manual_seed(1)
    return torch.randn(7, 6), torch.randint(0, 4, (7,))


@pytest.mark.parametrize(
    "criterion",
    [
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(reduction="sum"),
        MemoryLoss(nn.CrossEntropyLoss(), (4, 7), (0.3, 2.0)),
        MemoryLoss(nn.CrossEntropyLoss(), (4, 7), None, torch.tensor([0.5, 3.0, 1.0])),
    ],
    ids=["mean", "sum", "loss weights", "importance weights"],
)
@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_quantities_do_not_depend_on_how_rows_are_weighed(criterion, scale):
    model, (x, y) = network(), batch()
    found = told(model, criterion, x, y, scale=scale)
    with torch.no_grad():
        features, outputs = model[:3](x), model(x)
    losses = nn.functional.cross_entropy(outputs, y, reduction="none")
    norms = one_by_one(model, nn.CrossEntropyLoss(), x, y)
    torch.testing.assert_close(found["outputs"], outputs)
    torch.testing.assert_close(found["features"], features)
    torch.testing.assert_close(found["losses"], losses.detach())
    assert (found["gradient_norms"] - norms).norm() <= 1e-5 * norms.norm()


def test_rows_after_the_first_n_are_left_out():
    model, (x, y) = network(), batch()
    found = told(model, nn.CrossEntropyLoss(), x, y, n=3)
    assert {name: len(value) for name, value in found.items()} == dict.fromkeys(
        READS, 3
    )


def test_norms_stay_unknown_where_another_term_reads_the_output():
    model, (x, y) = network(), batch()

    def distilled(output, target):
        return nn.functional.cross_entropy(output, target) + output.square().mean()

    found = told(model, distilled, x, y)
    assert found["gradient_norms"] is None
    assert found["losses"] is not None


def test_a_penalty_on_weights_changes_nothing():
    model, (x, y) = network(), batch()

    def penalised(output, target):
        loss = nn.functional.cross_entropy(output, target)
        return loss + sum(p.square().sum() for p in model.parameters())

    norms = told(model, penalised, x, y)["gradient_norms"]
    expected = one_by_one(model, nn.CrossEntropyLoss(), x, y)
    assert (norms - expected).norm() <= 1e-5 * expected.norm()


def test_no_hook_is_left():
    model, (x, y) = network(), batch()
    told(model, nn.CrossEntropyLoss(), x, y)
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
