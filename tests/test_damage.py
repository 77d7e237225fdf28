"""Damage: each kind changes images where it says, by their keys alone."""

import pytest
import torch
from torchvision.transforms.v2.functional import pil_to_tensor

from hfvision import damage, read_image, sample_photos
from hfvision.data.transforms.keyed import image_keys
from hfvision.tasks.anomaly.damage import DAMAGES

PHOTOS = torch.stack([pil_to_tensor(read_image(p).convert("RGB").resize((48, 40))) for p in sample_photos().values()])


def keys(count: int, epoch: int = 0) -> torch.Tensor:
    return image_keys(0, epoch, torch.arange(count))


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_depends_on_itself_and_its_key(kind, channels):
    images = PHOTOS[:, :channels].clone()
    before, state = images.clone(), torch.get_rng_state()
    whole = damage(images, kind, keys(len(images)))
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert whole.shape == images.shape
    assert whole.dtype == torch.uint8
    parts = [damage(image[None], kind, key[None]) for image, key in zip(images, keys(len(images)), strict=True)]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(damage(images, kind, keys(len(images), epoch=1)), whole)


@pytest.mark.parametrize(("kind", "least", "most"), [("occluded", 0.08, 0.31), ("defaced", 0.005, 0.5)])
def test_part_of_the_middle_changes_in_the_light_of_the_image(kind, least, most):
    images = (PHOTOS[:1] // 4).expand(200, -1, -1, -1)
    damaged = damage(images, kind, keys(200))
    changed = (damaged != images).any(1)
    shares = changed.double().mean((1, 2))
    assert shares.min() > least
    assert shares.max() < most
    assert not changed[:, [0, -1]].any()
    assert not changed[:, :, [0, -1]].any()
    assert damaged.max() <= images.max()


def test_an_occlusion_is_one_rectangle_of_one_colour():
    images = torch.randint(256, (20, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for image, damaged in zip(images, damage(images, "occluded", keys(20)), strict=True):
        rows, columns = (damaged != image).any(0).nonzero().T
        inside = damaged[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (inside == inside[:, :1, :1]).all()


def test_broken_frames_are_blocks_shifts_or_noise():
    grey = torch.full((300, 1, 48, 48), 100, dtype=torch.uint8)
    grey[..., 24:] = 50
    damaged = damage(grey, "broken", keys(300))
    changed = (damaged != grey)[:, 0]
    values = [len(image.unique()) for image in damaged]
    noisy = sum(count > 20 for count in values)
    shifted = sum(count == 2 for count in values)
    assert noisy > 70
    assert shifted > 70
    assert 300 - noisy - shifted > 70
    assert changed.flatten(1).any(1).all()


@pytest.mark.parametrize("kind", DAMAGES)
def test_small_and_no_images(kind):
    for shape in ((2, 3, 4, 4), (1, 1, 1, 9), (0, 3, 8, 8)):
        assert damage(torch.full(shape, 200, dtype=torch.uint8), kind, keys(shape[0])).shape == shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": PHOTOS.float()}, "float32"),
        ({"images": PHOTOS[:, :2]}, "2, 40, 48"),
        ({"kind": "burnt"}, "'burnt': choose one of occluded"),
        ({"keys": keys(2)}, "one key for each"),
    ],
)
def test_bad_input_is_refused(change, message):
    good = {"images": PHOTOS, "kind": "broken", "keys": keys(len(PHOTOS))}
    with pytest.raises(ValueError, match=message):
        damage(**good | change)
