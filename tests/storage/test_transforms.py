"""avalanche_ext/storage/transforms.py: a batch gets what its samples would get."""

from functools import partial

import pytest
import torch
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import v2

from avalanche_ext import ScaleToUnit
from avalanche_ext.storage.transforms import (
    Chain,
    PerSample,
    fingerprint,
    image_mode,
    is_deterministic,
    plan,
    to_image,
    to_row,
)

RGB = torch.randint(
    0, 256, (6, 3, 12, 10), generator=torch.Generator().manual_seed(0)
).to(torch.uint8)


def images(mode):
    return [to_image(row if mode == "RGB" else row[:1]) for row in RGB]


class Halve:
    """A user's step that says that it is deterministic."""

    deterministic = True

    def __call__(self, x):
        return x * 0.5


PIPELINES = {
    "to tensor": ([v1.ToTensor()], 0),
    "normalised": (
        [v1.Compose([v1.ToTensor(), v1.Normalize((0.1,), (0.3,))])],
        0,
    ),
    "resized image": ([v1.Resize(8), v1.ToTensor(), v1.Normalize((0.1,), (0.3,))], 1),
    "resized tensor": ([v1.ToTensor(), v1.Resize(8, antialias=True)], 2),
    "v2": (
        [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.1], [0.3]),
        ],
        0,
    ),
    "user's": ([v1.ToTensor(), Halve()], 2),
    "user's batched": ([v1.PILToTensor(), ScaleToUnit()], 0),
    "nothing": ([v1.PILToTensor()], 0),
}


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("name", PIPELINES)
def test_once_then_batch_equals_sample_by_sample(name, mode):
    steps, once = PIPELINES[name]
    samples = images(mode)
    pipeline = plan(steps, samples[0])
    assert len(pipeline.once) == once
    assert pipeline.repeatable
    kept = []
    for sample in samples:
        for step in pipeline.once:
            sample = step(sample)
        kept.append(to_row(sample) if image_mode(sample) else sample)
    batch = torch.stack(kept)
    if pipeline.batch is not None:
        batch = pipeline.batch(batch)
    chain = v1.Compose(steps)
    expected = torch.stack([torch.as_tensor(chain(sample)) for sample in samples])
    assert torch.equal(batch, expected)


def test_random_steps_run_per_sample_in_order():
    steps = [v1.RandomCrop(8), v1.RandomHorizontalFlip(), v1.ToTensor()]
    samples = images("RGB")
    pipeline = plan(steps, samples[0])
    assert not pipeline.repeatable
    assert pipeline.once == ()
    assert isinstance(pipeline.batch, PerSample)
    chain = v1.Compose(steps)
    torch.manual_seed(3)
    expected = torch.stack([chain(sample) for sample in samples])
    torch.manual_seed(3)
    assert torch.equal(pipeline.batch(RGB), expected)


def test_random_steps_on_tensors():
    steps = [v1.RandomErasing(p=1.0)]
    rows = RGB.float()
    pipeline = plan(steps, rows[0])
    torch.manual_seed(3)
    expected = torch.stack([steps[0](row) for row in rows])
    torch.manual_seed(3)
    assert torch.equal(pipeline.batch(rows), expected)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_images_and_rows_are_inverse(mode):
    for image in images(mode):
        row = to_row(image)
        assert torch.equal(row, v1.PILToTensor()(image))
        assert to_image(row).tobytes() == image.tobytes()


def test_what_is_deterministic():
    assert is_deterministic(None)
    assert is_deterministic(v1.Compose([v1.ToTensor(), v1.Resize(3)]))
    assert not is_deterministic(v1.Compose([v1.ToTensor(), v1.RandomCrop(3)]))
    assert not is_deterministic(lambda x: x)
    assert image_mode(Image.new("I;16", (2, 2))) is None


def test_scale_to_unit():
    assert torch.equal(ScaleToUnit()(RGB), RGB.to(torch.float32).div(255))
    assert ScaleToUnit(16) == ScaleToUnit(16) != ScaleToUnit()


def test_fingerprints_are_of_types_and_parameters():
    def chain(mean, size=3):
        return Chain((v1.ToTensor(), v1.Normalize((mean,), (0.3,)), v1.Resize(size)))

    assert fingerprint(None) is None
    assert fingerprint(chain(0.1)) == fingerprint(chain(0.1))
    different = [chain(0.1), chain(0.2), chain(0.1, 4), ScaleToUnit(), ScaleToUnit(16)]
    assert len({fingerprint(one) for one in different}) == 5
    order = torch.arange(4)
    assert fingerprint(partial(torch.take, index=order)) != fingerprint(
        partial(torch.take, index=order.flip(0))
    )
