import dataclasses
import math
from random import Random

import pytest
import torch
from torch.nn.functional import interpolate
from torchvision.transforms.v2.functional import pil_to_tensor

from hfvision import read_image, sample_photos
from hfvision.data.transforms.blur_kernels import filter_image, gaussian_kernel, sinc_kernel
from hfvision.data.transforms.degradation_presets import PRESETS, Degradation
from hfvision.data.transforms.degradations import FILTERS, area_weights, degrade, resize
from hfvision.data.transforms.keyed import image_keys
from hfvision.data.transforms.noise import gaussian_noise, poisson_noise, sensor_noise
from hfvision.data.transforms.resize import downscale, through_jpeg, through_webp
from hfvision.metrics.psnr import psnr

PROCESSES = ("camera", "second_order", "shuffled")
SILENT = {  # without noise, and hardly compressed: what is left is blur and resizing
    "gaussian_sigmas": ((0, 1e-6), (0, 1e-6)),
    "poisson_strengths": ((0, 1e-6), (0, 1e-6)),
    "shuffled_sigmas": (0, 1e-6),
    "sensor_shot": (1e-9, 1e-8),
    "camera_shot": (1e-9, 1e-8),
    "quality": (95, 95),
    "camera_quality": (95, 95),
    "full_chroma": 1.0,
    "webp": 0.0,
}


@pytest.fixture(scope="module")
def photos():
    crops = [("cat", 60, 150), ("coffee", 100, 200), ("astronaut", 30, 180)]
    images = [pil_to_tensor(read_image(sample_photos()[name]).convert("RGB")) for name, _, _ in crops]
    parts = [image[:, y : y + 96, x : x + 96] for image, (_, y, x) in zip(images, crops, strict=True)]
    return torch.stack(parts).float() / 255


def blob(side, sigma=6.0):
    """A round bright spot in the very middle of a dark image."""
    steps = (torch.arange(side) - (side - 1) / 2) / sigma
    return (0.1 + 0.8 * (-0.5 * (steps[:, None] ** 2 + steps**2)).exp()).expand(1, 3, side, side)


def centroid(image):
    """Distance of the center of brightness from the center of the image, (y, x) in pixels."""
    weights = (image.mean(0) - 0.12).clamp_min(0)
    steps = [torch.arange(side) - (side - 1) / 2 for side in weights.shape]
    return torch.stack([(weights.sum(1 - axis) * steps[axis]).sum() for axis in (0, 1)]) / weights.sum()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_size_range_and_levels(photos, preset, scale):
    small = degrade(photos, scale, image_keys(0, 0, torch.arange(3)), PRESETS[preset])
    assert small.shape == (3, 3, 96 // scale, 96 // scale)
    assert 0 <= small.min() <= small.max() <= 1
    assert (small * 255 - (small * 255).round()).abs().max() < 1e-4


def test_an_image_depends_on_its_key_alone(photos):
    images, keys = photos[:1].repeat(40, 1, 1, 1), image_keys(1, 2, torch.arange(40))
    small = degrade(images, 4, keys)
    assert torch.equal(degrade(images, 4, keys.flip(0)).flip(0), small)
    assert torch.equal(degrade(images[:1], 4, keys[7:8])[0], small[7])
    threads = torch.get_num_threads()
    torch.set_num_threads(2 if threads == 1 else 1)
    try:
        assert torch.equal(degrade(images, 4, keys), small)
    finally:
        torch.set_num_threads(threads)
    state = torch.get_rng_state()
    degrade(images[:4], 4, keys[:4])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_devices_agree(photos):
    keys = image_keys(0, 0, torch.arange(3))
    on_gpu = degrade(photos.cuda(), 4, keys.cuda(), PRESETS["strong"])
    assert on_gpu.is_cuda
    assert torch.equal(on_gpu.cpu(), degrade(photos, 4, keys, PRESETS["strong"]))


def test_keys_that_differ_in_sign_alone_differ(photos):
    images = photos[:1].repeat(2, 1, 1, 1)
    small = degrade(images, 4, torch.tensor([5, -5]), PRESETS["strong"])
    assert not torch.equal(small[0], small[1])


def test_autocast_changes_nothing(photos):
    keys = image_keys(0, 0, torch.arange(3))
    small = degrade(photos, 4, keys, PRESETS["strong"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(degrade(photos, 4, keys, PRESETS["strong"]), small)


def test_a_fifth_of_mild_images_is_only_shrunk_by_bicubic(photos):
    images, keys = photos[:1].repeat(200, 1, 1, 1), image_keys(0, 0, torch.arange(200))
    small, clean = degrade(images, 4, keys, PRESETS["mild"]), downscale(photos[:1], 4)
    untouched = (small == clean).flatten(1).all(1).float().mean()
    assert 0.12 < untouched < 0.28


def test_strong_damages_more_than_mild_and_mild_more_than_bicubic(photos):
    keys = image_keys(0, 0, torch.arange(60))
    images = photos.repeat(20, 1, 1, 1)
    clean = downscale(images, 4)
    errors = {name: (degrade(images, 4, keys, PRESETS[name]) - clean).square().mean() for name in PRESETS}
    assert errors["bicubic"] == 0 < errors["mild"] < errors["photo"] < errors["strong"]


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_nothing_is_shifted(process, scale):
    images = blob(40 * scale, 2.5 * scale).repeat(32, 1, 1, 1)
    keys = image_keys(scale, 0, torch.arange(32))
    small = degrade(images, scale, keys, Degradation(**{process: 1}, **SILENT))
    shifts = torch.stack([centroid(image) for image in small])
    assert shifts.abs().max() < 0.06, "of a pixel, of which 8-bit rounding and JPEG are a part"
    assert shifts.mean(0).abs().max() < 0.01


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_photographs_fit_best_where_they_were(photos, process, scale):
    images = photos.repeat(6, 1, 1, 1)
    images = torch.cat([images, images.rot90(1, (-2, -1)), images.rot90(2, (-2, -1)), images.rot90(3, (-2, -1))])
    keys = image_keys(scale, 1, torch.arange(len(images)))
    small = degrade(images, scale, keys, Degradation(**{process: 1}, **SILENT))
    large = interpolate(small, scale_factor=scale, mode="bicubic", antialias=True).clamp(0, 1)
    moves = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]
    fit = torch.stack([psnr(large.roll(move, (-2, -1)), images, crop=8) for move in moves]).mean(1)
    assert fit.argmax() == 0
    assert fit[1:].max() - fit[1:].min() < 0.2, "a pixel of the large image to any side is as bad as to the others"


@pytest.mark.parametrize("mode", FILTERS)
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [24, 37, 53, 96, 131, 144])
def test_resizing_keeps_the_center(mode, antialias, size):
    image = blob(96)[0]
    assert centroid(resize(image, [size, size], mode, antialias)).abs().max() < 1e-3
    off = image.roll(7, -1)  # the center of brightness, 7 pixels to the right, moves with the size
    moved = centroid(resize(off, [size, size], mode, antialias))[1]
    assert moved == pytest.approx(7 * size / 96, abs=0.03)


def test_area_is_the_mean_of_what_is_covered():
    weights = area_weights(5, 2)
    torch.testing.assert_close(weights, torch.tensor([[2, 2, 1, 0, 0], [0, 0, 1, 2, 2]]) / 5)
    torch.testing.assert_close(area_weights(7, 18).sum(1), torch.ones(18))


@pytest.mark.parametrize(
    "kernel",
    [
        gaussian_kernel(21, (2.0, 2.0)),
        gaussian_kernel(21, (3.0, 0.7), 0.6),
        gaussian_kernel(15, (2.0, 1.0), 1.0, "generalized", 0.5),
        gaussian_kernel(15, (2.0, 1.0), 1.0, "plateau", 1.5),
        sinc_kernel(13, math.pi / 3),
    ],
)
def test_kernels_are_symmetric_of_sum_one(kernel):
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(kernel.flip(0, 1), kernel, rtol=0, atol=1e-7)
    image = torch.rand(3, 40, 40)
    assert filter_image(image, kernel).shape == image.shape
    torch.testing.assert_close(filter_image(torch.full((1, 40, 40), 0.3), kernel), torch.full((1, 40, 40), 0.3))


def test_gaussian_kernels_have_their_widths_and_angle():
    steps = torch.arange(41) - 20.0
    kernel = gaussian_kernel(41, (4.0, 2.0), math.pi / 6)
    xx, yy = (kernel * steps**2).sum(), (kernel * steps[:, None] ** 2).sum()
    xy = (kernel * steps * steps[:, None]).sum()
    assert (xx.item(), yy.item(), xy.item()) == pytest.approx((13, 7, 6 * math.sqrt(3) / 2), rel=0.01)


def test_sinc_rings_and_passes_what_is_below_its_cutoff():
    kernel = sinc_kernel(21, math.pi / 2)
    assert kernel.min() < -0.003
    wave = torch.cos(0.3 * torch.arange(120.0)).expand(1, 120, 120)
    middle = slice(30, 90)
    torch.testing.assert_close(filter_image(wave, kernel)[0, 60, middle], wave[0, 60, middle], rtol=0, atol=0.1)
    fine = torch.cos(2.8 * torch.arange(120.0)).expand(1, 120, 120)
    assert filter_image(fine, kernel)[0, 60, middle].abs().max() < 0.15


@pytest.mark.parametrize("channels", ["grey", "color", "correlated"])
def test_gaussian_noise_has_its_strength_and_correlation(channels):
    noise = gaussian_noise(torch.full((3, 200, 200), 0.5), 0.05, channels, Random(3)) - 0.5
    assert noise.mean().abs() < 0.002
    assert noise.square().mean().sqrt() == pytest.approx(0.05, rel=0.03)
    correlation = torch.corrcoef(noise.flatten(1))[0, 1].abs()
    assert {"grey": correlation > 0.999, "color": correlation < 0.02, "correlated": 0.02 < correlation < 0.99}[
        channels
    ]


@pytest.mark.parametrize("level", [0.02, 0.1, 0.5])
def test_poisson_noise_has_the_moments_of_counted_photons(level):
    levels, photons = torch.full((3, 2, 20000), level), 255 * level
    noise = (poisson_noise(levels, 1.0, False, Random(0)) - levels) * 255
    assert noise.mean().item() == pytest.approx(0, abs=0.02 * math.sqrt(photons))
    assert noise.std().item() == pytest.approx(math.sqrt(photons), rel=0.03)
    assert (noise / noise.std()).pow(3).mean().item() == pytest.approx(1 / math.sqrt(photons), abs=0.06)
    grey = poisson_noise(levels, 1.0, True, Random(0)) - levels
    torch.testing.assert_close(grey[0], grey[2], rtol=0, atol=1e-6)


def test_sensor_noise_grows_with_the_gain_and_most_in_the_shadows():
    levels = torch.tensor([0.2, 0.8])[:, None].expand(3, 2, 20000)
    low, high = ((sensor_noise(levels, shot, Random(1)) - levels).std(-1)[1] for shot in (2e-4, 0.012))
    assert (high > 4 * low).all()
    assert high[0] > 1.1 * high[1]
    assert sensor_noise(torch.zeros(3, 4, 4), 0.01, Random(0)).isfinite().all()


def test_codecs_keep_the_mode_and_chroma():
    color = torch.zeros(3, 32, 32, dtype=torch.uint8)
    color[0, :, 1::2], color[2, :, ::2] = 200, 200
    assert through_jpeg(color, 95, "4:4:4").float().sub(color).abs().mean() < 12
    assert through_jpeg(color, 95).float().sub(color).abs().mean() > 30
    for codec in (through_jpeg, through_webp):
        assert codec(color[:1], 60).shape == (1, 32, 32)
        assert codec(color, 60).shape == (3, 32, 32)


def test_blocks_of_jpeg_begin_anywhere(photos):
    settings = Degradation(camera=1, camera_blur=0, camera_noise=0, camera_codec=1, camera_quality=(5, 5), webp=0)
    small = degrade(photos[:1].repeat(40, 1, 1, 1), 2, image_keys(0, 0, torch.arange(40)), settings)
    steps = (small[..., 1:] - small[..., :-1]).abs().mean((1, 2))
    phases = {steps[number, 3:43].view(5, 8).mean(0).argmax().item() for number in range(len(small))}
    assert len(phases) >= 7, "the largest steps, between blocks, are at every eighth pixel from anywhere"


def test_grey_and_tiny_images(photos):
    for preset in ("mild", "strong"):
        keys = image_keys(0, 0, torch.arange(30))
        tiny = photos[:1, :1, :16, :16].repeat(30, 1, 1, 1)
        assert degrade(tiny, 2, keys, PRESETS[preset]).shape == (30, 1, 8, 8)
        assert degrade(tiny[..., :4, :6], 2, keys, PRESETS[preset]).shape == (30, 1, 2, 3)


def test_what_does_not_fit_is_refused(photos):
    with pytest.raises(ValueError, match="multiples of scale 4, got 95×96"):
        degrade(photos[:, :, :95], 4, image_keys(0, 0, torch.arange(3)))
    for shares in ({}, {"camera": -1.0, "bicubic": 2.0}):
        with pytest.raises(ValueError, match="shares"):
            Degradation(**shares)
    assert dataclasses.replace(PRESETS["mild"], webp=0.5).webp == 0.5
