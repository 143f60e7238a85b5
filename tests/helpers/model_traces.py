"""What a call may leave behind on a model, and models with several heads."""

from typing import Any

import torch
from avalanche.models.dynamic_modules import avalanche_model_adaptation


def traces(model) -> dict[str, Any]:
    return {
        "modes": [module.training for module in model.modules()],
        "state": {n: v.clone() for n, v in model.state_dict().items()},
        "grads": [
            None if p.grad is None else p.grad.clone() for p in model.parameters()
        ],
        "needs": [p.requires_grad for p in model.parameters()],
        "hooks": [
            len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()
        ],
        "attributes": [",".join(vars(module)) for module in model.modules()],
        "random": torch.get_rng_state(),
    }


def assert_same_traces(model, before):
    after = traces(model)
    for name, value in before.items():
        if name in ("state", "grads", "random"):
            torch.testing.assert_close(after[name], value, rtol=0, atol=0)
        else:
            assert after[name] == value, name


def multi_head(kind, tasks=3):
    torch.manual_seed(0)
    model = kind()
    for task in range(tasks):
        avalanche_model_adaptation(model, Experience(task))
    return model


class Experience:
    """What heads look at when they grow."""

    def __init__(self, task):
        self.task_labels = [task]
        self.classes_in_this_experience = [2 * task, 2 * task + 1]
