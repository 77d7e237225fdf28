"""Augmentation: the right geometry, nothing but the image and its key, and generators left alone."""

import dataclasses
import math

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from hfvision import read_image, sample_dataset, sample_photos
from hfvision.data.transforms import augment as module
from hfvision.data.transforms.augment import FreshAugmentation, augment, augment_pil, mix
from hfvision.data.transforms.augmentation import PRESETS, Augmentation
from hfvision.data.transforms.keyed import image_keys
from hfvision.metrics.psnr import psnr

SETTINGS = PRESETS | {
    "resized crop": Augmentation(resized_crop=0.25),
    "randaugment": Augmentation(randaugment=2),
    "trivial": Augmentation(trivial_augment=True, flip=True),
    "light": Augmentation(light=1),
    "all": Augmentation(0.1, True, 30, 0.1, 0.1, 0.1, 0.5, 1, False, 0.5, light=0.5),
}


def keys(count: int, epoch: int = 0) -> torch.Tensor:
    return image_keys(0, epoch, torch.arange(count))


def noise(count: int, channels: int = 3, height: int = 12, width: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def smooth_photo(side: int = 64) -> torch.Tensor:
    """One image (1, 3, side, side), without fine detail, so that reading it between pixels loses nothing."""
    photo = read_image(sample_photos()["coffee"]).convert("RGB").resize((8, 8))
    return pil_to_tensor(photo.resize((side, side), Image.Resampling.BICUBIC))[None]


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("channels", [1, 3])
def test_same_kind_of_images_for_any_split_of_the_batch(name, channels):
    images, settings = noise(24, channels), SETTINGS[name]
    original = images.clone()
    state = torch.get_rng_state()
    whole = augment(images, keys(24), settings)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, original)
    assert whole.dtype == torch.uint8
    assert whole.shape == images.shape
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    for size in (1, 5):
        parts = zip(images[order].split(size), keys(24)[order].split(size), strict=True)
        assert torch.equal(torch.cat([augment(i, k, settings) for i, k in parts]), whole[order])
    if name == "none":
        assert torch.equal(whole, images)
    else:
        assert not torch.equal(whole, augment(images, keys(24, epoch=1), settings))


def test_half_of_the_images_are_mirrored():
    images = noise(1).expand(2000, -1, -1, -1)
    flipped = augment(images, keys(2000), Augmentation(flip=True))
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    same = (flipped == images).flatten(1).all(1)
    assert (mirrored ^ same).all()
    assert 900 < mirrored.sum() < 1100


def test_crops_are_the_windows_of_the_padded_image():
    images = noise(1, height=8, width=16)
    padded = torch.nn.functional.pad(images.float(), (4, 4, 2, 2), mode="reflect").to(torch.uint8)
    windows = {padded[0, :, y : y + 8, x : x + 16].numpy().tobytes(): (y, x) for y in range(5) for x in range(9)}
    crops = augment(images.expand(2000, -1, -1, -1), keys(2000), Augmentation(crop_padding=0.25))
    counts = torch.zeros(5, 9)
    for crop in crops:
        counts[windows[crop.numpy().tobytes()]] += 1
    assert counts.min() > 20
    assert counts.max() < 80  # 44 expected


def test_switching_one_thing_on_leaves_the_rest_alone():
    images = noise(50)
    plain = augment(images, keys(50), Augmentation(crop_padding=0.1, flip=True))
    erased = augment(images, keys(50), Augmentation(crop_padding=0.1, flip=True, erasing=0.5))
    untouched = (plain == erased).flatten(1).all(1)
    assert 10 < untouched.sum() < 40


def shares(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Centre of the bright pixels of each image, in pixels right and down of the image's centre."""
    mass = images[:, 0].double()
    height, width = mass.shape[-2:]
    y = torch.arange(height).double()[:, None] - (height - 1) / 2
    x = torch.arange(width).double() - (width - 1) / 2
    total = mass.sum((1, 2))
    return (mass * x).sum((1, 2)) / total, (mass * y).sum((1, 2)) / total


def dot(height: int, width: int, left: int, top: int) -> torch.Tensor:
    """A grey image (1, 1, height, width), black but for a white square of 4×4 pixels."""
    image = torch.zeros(1, 1, height, width, dtype=torch.uint8)
    image[..., top : top + 4, left : left + 4] = 255
    return image


def test_rotation_turns_about_the_centre_by_up_to_the_given_angle():
    images = dot(40, 60, 38, 18).expand(400, -1, -1, -1)  # 10 pixels right of the centre
    x, y = shares(augment(images, keys(400), Augmentation(rotation=40)))
    assert torch.allclose(torch.hypot(x, y), torch.tensor(10.0).double(), atol=0.15)
    degrees = torch.rad2deg(torch.atan2(y, x))
    assert -40.5 < degrees.min() < -38
    assert 38 < degrees.max() < 40.5
    assert degrees.mean().abs() < 3.5


def test_shift_moves_by_shares_of_width_and_height():
    images = dot(40, 60, 28, 18).expand(400, -1, -1, -1)
    x, y = shares(augment(images, keys(400), Augmentation(shift=0.2)))
    for moved, side in ((x, 60), (y, 40)):
        assert 0.19 * side < moved.max() < 0.201 * side
        assert -0.201 * side < moved.min() < -0.19 * side
    assert torch.corrcoef(torch.stack([x, y]))[0, 1].abs() < 0.15


def test_zoom_scales_width_and_height_apart():
    images = dot(40, 60, 38, 8).expand(400, -1, -1, -1)  # 10 right and 10 up of the centre
    x, y = shares(augment(images, keys(400), Augmentation(zoom=0.2)))
    for distance in (x, -y):
        assert 10 / 1.21 < distance.min() < 10 / 1.18
        assert 10 / 0.82 < distance.max() < 10 / 0.79
    assert torch.corrcoef(torch.stack([x, y]))[0, 1].abs() < 0.15


def test_shear_moves_rows_by_the_tangent_of_the_angle():
    images = dot(40, 60, 28, 8).expand(400, -1, -1, -1)  # 10 above the centre
    x, y = shares(augment(images, keys(400), Augmentation(shear=0.2)))
    assert torch.allclose(y, torch.tensor(-10.0).double(), atol=0.05)
    assert 9.7 * math.tan(0.2) < x.max() < 10.1 * math.tan(0.2)
    assert -10.1 * math.tan(0.2) < x.min() < -9.7 * math.tan(0.2)


def test_resized_crop_magnifies_and_stays_inside():
    ramp = torch.arange(64, dtype=torch.uint8)[None, None, None].expand(400, 1, 32, -1).contiguous() * 4
    crops = augment(ramp, keys(400), Augmentation(resized_crop=0.25))[:, 0, 16].int()
    share = (crops[:, -1] - crops[:, 0]) / 4 / 63
    low, high = 0.5 * (3 / 4) ** 0.5, 1
    assert low - 0.03 < share.min() < low + 0.06
    assert high - 0.04 < share.max() <= high
    assert (crops[:, 0] > 0).any()
    assert (crops.diff(dim=1) >= 0).all()
    assert crops[:, 0].min() < 8
    assert crops[:, -1].max() > 244


def test_what_comes_in_from_outside_repeats_the_border():
    images = torch.zeros(200, 1, 16, 16, dtype=torch.uint8)
    images[..., -1] = 200
    shifted = augment(images, keys(200), Augmentation(shift=0.5))[:, 0]
    assert shifted[:, :, 0].max() == 0
    filled = shifted[:, :, -4:].flatten(1).min(1).values == 200
    assert 40 < filled.sum() < 90  # moved left by 3 pixels or more, of 8: 31%


def test_light_multiplies_brightness_and_contrast_about_the_mean():
    # Two grey levels at equal parts: their mean shows the brightness, their distance brightness times contrast.
    image = torch.tensor([30, 34], dtype=torch.uint8).repeat(1, 3, 8, 4)
    lit = augment(image.expand(500, -1, -1, -1), keys(500), Augmentation(light=1)).double()
    brightness = lit.mean((1, 2, 3)) / 32
    assert 0.48 < brightness.min() < 0.55
    assert 1.85 < brightness.max() < 2.02
    assert 0.4 < (brightness < 1).double().mean() < 0.6
    contrast = (lit[..., 1] - lit[..., 0]).mean((1, 2)) / 4 / brightness
    assert contrast.min() < 0.7
    assert contrast.max() > 1.6
    black = torch.zeros(20, 1, 4, 4, dtype=torch.uint8)
    assert torch.equal(augment(black, keys(20), Augmentation(light=3)), black)


def test_upright_never_shows_a_mirror_image_or_a_quarter_turn():
    # Four quarters of different greys: each of the eight ways to mirror and turn them looks different.
    sign = torch.tensor([[20.0, 200.0], [80.0, 120.0]]).repeat_interleave(16, 0).repeat_interleave(16, 1)[None, None]
    turned = [torch.rot90(pose, turn, (2, 3)) for pose in (sign, sign.flip(3)) for turn in range(4)]
    poses = torch.cat(turned).flatten(1)
    for preset, always in (("upright", True), ("classic", False)):
        seen = augment(sign.byte().expand(500, -1, -1, -1), keys(500), PRESETS[preset]).float().flatten(1)
        nearest = torch.corrcoef(torch.cat([poses, seen]))[8:, :8].argmax(1)
        assert (nearest == 0).all() == always


def test_a_warp_by_nothing_is_nothing():
    images = noise(5)
    assert torch.equal(augment(images, keys(5), Augmentation(rotation=1e-6)), images)
    photo = smooth_photo()
    turned = augment(photo.expand(20, -1, -1, -1), keys(20), Augmentation(rotation=2))
    assert (psnr(turned / 255, photo.expand(20, -1, -1, -1) / 255, crop=4) > 20).all()


def test_erasing_is_a_rectangle_of_the_mean_colour():
    images = noise(500, height=32, width=32)
    erased = augment(images, keys(500), Augmentation(erasing=0.25))
    changed = (erased != images).any(1)
    hit = changed.flatten(1).any(1)
    assert 90 < hit.sum() < 160
    for image, result, where in zip(images[hit], erased[hit], changed[hit], strict=True):
        rows, columns = where.any(1).nonzero()[:, 0], where.any(0).nonzero()[:, 0]
        box = result[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].flatten(1)
        assert torch.equal(box, image.double().mean((1, 2)).round().to(torch.uint8)[:, None].expand_as(box))
        assert 0.01 < box.shape[1] / 1024 < 0.36
    untouched = augment(images, keys(500), Augmentation(erasing=0))
    assert torch.equal(untouched, images)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixing_pairs_neighbours_by_the_proportion_of_the_labels(name):
    images = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 10, 10)
    state = torch.get_rng_state()
    mixed, targets = mix(images, torch.arange(8), keys(8), Augmentation(**{name: 1.0}), 8)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.allclose(targets.sum(1), torch.ones(8))
    share = targets.diag()
    assert 0 < share[0] < 1
    assert torch.allclose(targets, torch.eye(8) * share[0] + torch.eye(8).roll(1, 0) * (1 - share[0]))
    assert torch.allclose(mixed.mean((1, 2, 3)), targets @ torch.arange(8.0), atol=1e-5)
    assert len(mixed[3].unique()) == (1 if name == "mixup" else 2)
    other, _ = mix(images, torch.arange(8), keys(8, epoch=1), Augmentation(**{name: 1.0}), 8)
    assert not torch.equal(other, mixed)


def test_with_both_each_batch_gets_mixup_or_cutmix():
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 10, 10)
    both = Augmentation(mixup=1.0, cutmix=1.0)
    cut = [len(mix(images, torch.arange(4), keys(4, e), both, 4)[0][1].unique()) == 2 for e in range(40)]
    assert 8 < sum(cut) < 32


def test_without_mixing_labels_stay_classes():
    images, labels = noise(4).float(), torch.arange(4)
    mixed, targets = mix(images, labels, keys(4), PRESETS["classic"], 4)
    assert torch.equal(mixed, images)
    assert torch.equal(targets, labels)


def test_views_for_test_time():
    images = noise(3)
    assert [(w, torch.equal(v, images)) for w, v in module.test_time_views(images, "none")] == [(1.0, True)]
    (_, first), (weight, mirrored) = module.test_time_views(images, "flip")
    assert weight == 0.5
    assert torch.equal(first, images)
    assert torch.equal(mirrored, images.flip(3))
    views = module.test_time_views(images.float(), "flip_shift")
    padded = torch.nn.functional.pad(images.float(), (1, 1, 1, 1), mode="reflect")
    up_left, down_right = padded[..., 2:, 2:], padded[..., :-2, :-2]
    expected = [images.float(), images.float().flip(3), up_left, up_left.flip(3), down_right, down_right.flip(3)]
    assert [w for w, _ in views] == [0.25, 0.25, 0.125, 0.125, 0.125, 0.125]
    assert all(torch.equal(view, image) for (_, view), image in zip(views, expected, strict=True))
    with pytest.raises(ValueError, match="rotate"):
        module.test_time_views(images, "rotate")


def test_pil_images_of_any_size_and_mode():
    photo = read_image(sample_photos()["cat"])
    images = [photo.convert(mode).resize(size) for mode in ("L", "RGB", "RGBA", "P") for size in ((20, 10), (9, 30))]
    varied = augment_pil(images, keys(8), PRESETS["strong"])
    assert [tuple(v.shape) for v in varied] == [
        (1 if image.mode == "L" else 3, image.height, image.width) for image in images
    ]
    alone = [augment_pil([i], k[None], PRESETS["strong"])[0] for i, k in zip(images, keys(8), strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(varied, alone, strict=True))


def test_each_reading_is_fresh_and_map_would_freeze_it():
    split = sample_dataset()["train"].select(range(8))
    fresh = FreshAugmentation(PRESETS["strong"])
    read = split.with_transform(fresh)
    assert read[0]["image"].dtype == torch.uint8
    assert read[0]["image"].shape == (1, 28, 28)
    assert read[0]["label"] == split[0]["label"]
    first, second = torch.stack(read[:]["image"]), torch.stack(read[:]["image"])
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    third = torch.stack(read[:]["image"])
    torch.manual_seed(5)
    assert torch.equal(torch.stack(read[:]["image"]), third)
    frozen = split.map(lambda rows: {"pixels": fresh(rows)["image"]}, batched=True)
    assert frozen[:]["pixels"] == frozen[:]["pixels"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crop_padding", 0.6),
        ("rotation", -1),
        ("rotation", 200),
        ("shift", 1.5),
        ("shear", math.nan),
        ("zoom", 1),
        ("resized_crop", 2),
        ("randaugment", 1.5),
        ("erasing", 1.1),
        ("mixup", -0.2),
        ("cutmix", math.inf),
        ("light", -0.5),
    ],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"{name}.*{value}"):
        dataclasses.replace(PRESETS["none"], **{name: value})


def test_one_policy_at_a_time():
    with pytest.raises(ValueError, match="choose one"):
        Augmentation(randaugment=2, trivial_augment=True)


def test_images_and_keys_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="float32"):
        augment(noise(2).float(), keys(2), PRESETS["classic"])
    with pytest.raises(ValueError, match=r"\(3, 12, 16\)"):
        augment(noise(2)[0], keys(3), PRESETS["classic"])
    with pytest.raises(ValueError, match="each of 2 images"):
        augment(noise(2), keys(3), PRESETS["classic"])
