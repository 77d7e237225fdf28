"""Corruptions: what each does to pixels, worse with each severity, and nothing but the image and its key."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import hsv2rgb, rgb2hsv
from skimage.filters import gaussian
from torchvision.transforms.v2.functional import pil_to_tensor

from hfvision import read_image, sample_photos
from hfvision.data.transforms.keyed import image_keys
from hfvision.robustness.corruptions import CORRUPTIONS, corrupt, corrupt_some

PHOTO = read_image(sample_photos()["coffee"]).convert("RGB").resize((32, 32), Image.Resampling.LANCZOS)
PHOTOS = torch.stack([pil_to_tensor(read_image(p).convert("RGB").resize((32, 32))) for p in sample_photos().values()])


def keys(count: int, seed: int = 0) -> torch.Tensor:
    return image_keys(seed, 0, torch.arange(count))


def corrupted_photo(name: str, severity: int) -> np.ndarray:
    return corrupt(pil_to_tensor(PHOTO)[None], name, severity, keys(1))[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_depends_on_itself_and_its_key(name, channels):
    images = PHOTOS[:, :channels].clone()
    before, state = images.clone(), torch.get_rng_state()
    whole = corrupt(images, name, 3, keys(len(images)))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, before)
    assert whole.dtype == torch.uint8
    assert whole.shape == images.shape
    alone = [corrupt(image[None], name, 3, key[None]) for image, key in zip(images, keys(len(images)), strict=True)]
    assert torch.equal(torch.cat(alone), whole)
    other = corrupt(images, name, 3, keys(len(images), seed=1))
    assert torch.equal(other, whole) == (not name.endswith("noise"))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_severity_is_worse(name):
    errors = [
        (corrupt(PHOTOS, name, severity, keys(len(PHOTOS))).float() - PHOTOS).square().mean().item()
        for severity in range(1, 6)
    ]
    assert errors == sorted(errors)
    assert errors[0] > 1
    assert errors[-1] > 1.3 * errors[0]


def test_noise_has_the_stated_deviation():
    grey = torch.full((40, 3, 32, 32), 128, dtype=torch.uint8)
    for severity, sigma in zip(range(1, 6), (0.04, 0.06, 0.08, 0.09, 0.10), strict=True):
        noise = corrupt(grey, "gaussian_noise", severity, keys(40)).double() / 255 - 128 / 255
        assert noise.std().item() == pytest.approx(sigma, rel=0.02)
        assert noise.mean().abs() < 1e-3
    for severity, photons in zip(range(1, 6), (500, 250, 100, 75, 50), strict=True):
        noise = corrupt(grey, "shot_noise", severity, keys(40)).double() / 255 - 128 / 255
        assert noise.std().item() == pytest.approx((128 / 255 / photons) ** 0.5, rel=0.02)
    dark = torch.zeros_like(grey)
    assert torch.equal(corrupt(dark, "shot_noise", 5, keys(40)), dark)


def test_blur_is_that_of_scikit_image_inside():
    for severity, sigma in zip(range(1, 6), (0.4, 0.6, 0.7, 0.8, 1), strict=True):
        expected = gaussian(np.asarray(PHOTO) / 255, sigma, channel_axis=-1) * 255
        difference = corrupted_photo("gaussian_blur", severity) - expected
        assert np.abs(difference[5:-5, 5:-5]).max() < 0.6  # the border goes on mirrored, not repeated


def test_brightness_is_the_value_of_hsv():
    for severity, shift in zip(range(1, 6), (0.05, 0.1, 0.15, 0.2, 0.3), strict=True):
        hsv = rgb2hsv(np.asarray(PHOTO))
        hsv[..., 2] = (hsv[..., 2] + shift).clip(0, 1)
        assert np.abs(corrupted_photo("brightness", severity) - hsv2rgb(hsv) * 255).max() < 0.51
    black = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    assert (corrupt(black, "brightness", 4, keys(1)) == 51).all()


def test_contrast_is_about_the_mean_of_each_channel():
    pixels = np.asarray(PHOTO) / 255
    mean = pixels.mean((0, 1))
    for severity, factor in zip(range(1, 6), (0.75, 0.5, 0.4, 0.3, 0.15), strict=True):
        expected = ((pixels - mean) * factor + mean) * 255
        assert np.abs(corrupted_photo("contrast", severity) - expected).max() < 0.51


def test_jpeg_and_pixelate_are_those_of_pillow():
    for severity, quality, side in zip(range(1, 6), (80, 65, 58, 50, 40), (30, 28, 27, 24, 20), strict=True):
        PHOTO.save(file := io.BytesIO(), "JPEG", quality=quality)
        assert np.array_equal(corrupted_photo("jpeg", severity), np.asarray(Image.open(file)))
        small = PHOTO.resize((side, side), Image.Resampling.BOX)
        expected = np.asarray(small.resize((32, 32), Image.Resampling.BOX))
        assert np.array_equal(corrupted_photo("pixelate", severity), expected)


def test_some_are_corrupted_each_by_its_key_alone():
    images = PHOTOS[:1].expand(400, -1, -1, -1)
    some = corrupt_some(images, keys(400), 0.4)
    changed = (some != images).flatten(1).any(1)
    assert 130 < changed.sum() < 190
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    parts = [corrupt_some(images[part], keys(400)[part], 0.4) for part in order.split(7)]
    assert torch.equal(torch.cat(parts), some[order])
    assert torch.equal(corrupt_some(images, keys(400), 0), images)
    known = [corrupt(PHOTOS[:1], name, level, keys(1)) for name in CORRUPTIONS for level in range(1, 6)]
    same = torch.cat([(some == image).flatten(1).all(1)[None] for image in known])
    assert same.any(1).sum() >= 25  # all but noise, which has other keys here, in every severity
    with pytest.raises(ValueError, match=r"from 0 to 1, got 1\.5"):
        corrupt_some(images, keys(400), 1.5)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_sizes_down_to_one_pixel_and_no_images(name):
    for shape in ((2, 3, 1, 1), (1, 1, 2, 40), (0, 3, 8, 8)):
        images = torch.full(shape, 200, dtype=torch.uint8)
        assert corrupt(images, name, 5, keys(shape[0])).shape == shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": PHOTOS.float()}, "float32"),
        ({"images": PHOTOS[0]}, r"\(3, 32, 32\)"),
        ({"images": PHOTOS[:, :2]}, "2, 32, 32"),
        ({"name": "fog"}, "'fog': choose one of gaussian_noise"),
        ({"severity": 6}, "1 to 5, got 6"),
        ({"severity": 0}, "1 to 5, got 0"),
        ({"keys": keys(2)}, "one key for each"),
    ],
)
def test_bad_input_is_refused(change, message):
    good = {"images": PHOTOS, "name": "jpeg", "severity": 1, "keys": keys(len(PHOTOS))}
    with pytest.raises(ValueError, match=message):
        corrupt(**good | change)
