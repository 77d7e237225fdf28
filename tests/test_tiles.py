"""Tiles give the bits of the whole image, whatever their size; failing memory and failing precision are caught."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from hfvision import SRGANConfig, SRGANForImageSuperResolution
from hfvision.inspection.layers import summarize
from hfvision.models.srgan.tiles_srgan import (
    FEW_VALUES,
    GuardedNetwork,
    cell_side,
    receptive_radius,
    upscale_strips,
)
from hfvision.tasks.super_resolution.tiles import choose_dtype, upscale_pixels

NETWORKS = {
    "plain": {"preset": "fast-tiny", "scale": 2, "hidden_size": 12, "block_widths": [[12] * 3]},
    "residual": {"preset": "fast-light", "scale": 3, "hidden_size": 12, "block_widths": [[12]] * 3},
    "grey": {"preset": "fast-tiny", "scale": 4, "num_channels": 1, "hidden_size": 8, "block_widths": [[8, 8]]},
    "stepwise": {"preset": "srresnet", "scale": 4, "hidden_size": 8, "block_widths": [[8]] * 2},
    "nearest": {
        **{"preset": "fast-tiny", "scale": 2, "hidden_size": 8, "block_widths": [[8]]},
        **{"skip": "nearest", "upsampler": "stepwise", "hidden_act": "leaky_relu"},
    },
    "unshuffled": {"preset": "photo", "scale": 2, "hidden_size": 12, "block_widths": [[12]] * 2},
}


def network(name: str, **options) -> SRGANForImageSuperResolution:
    torch.manual_seed(0)
    options = NETWORKS[name] | options
    model = SRGANForImageSuperResolution(SRGANConfig.from_preset(options.pop("preset"), **options)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def tiled(run, image: torch.Tensor, config: SRGANConfig, tile: int) -> torch.Tensor:
    def window(rows, columns):
        return image[..., rows, columns]

    size, radius = image.shape[2:], receptive_radius(config)
    return torch.cat(list(upscale_strips(run, window, size, config.scale, radius, tile, cell_side(config))), 2)


def noise(height: int, width: int, channels: int = 3, dtype=np.uint8) -> np.ndarray:
    random = np.random.default_rng(0)
    return random.integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype=dtype)


def whole(pixels: np.ndarray, model, **options) -> np.ndarray:
    return np.concatenate(list(upscale_pixels(pixels, model, precision="fp32", **options)))


@pytest.mark.parametrize(
    ("name", "size"), [*((name, (191, 140)) for name in NETWORKS), ("plain", (24, 900)), ("plain", (1000, 22))]
)
def test_tiles_are_the_whole_image_bit_by_bit(name, size):
    model = network(name)
    run, radius = GuardedNetwork(model), receptive_radius(model.config)
    image = torch.rand(1, model.config.num_channels, *size)
    expected = run(image)
    assert expected.shape[2:] == (size[0] * model.config.scale, size[1] * model.config.scale)
    for tile in (2 * radius + 1, 64, 97):
        assert torch.equal(tiled(run, image, model.config, tile), expected), tile


@pytest.fixture
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ["residual", "nearest"])
def test_many_threads_give_the_same_bits(two_threads, name):
    model, image = network(name), torch.rand(1, 3, 191, 140)
    run = GuardedNetwork(model)
    for tile in (2 * receptive_radius(model.config) + 1, 64, 97):
        assert torch.equal(tiled(run, image, model.config, tile), run(image)), tile


@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_curved_activations_differ_in_their_last_bit_alone(two_threads, activation):
    model, image = network("nearest", hidden_act=activation), torch.rand(1, 3, 191, 140)
    run = GuardedNetwork(model)
    torch.testing.assert_close(tiled(run, image, model.config, 64), run(image), rtol=0, atol=5e-7)


def test_a_smaller_overlap_shows_seams():
    model = network("residual")
    run, image, radius = GuardedNetwork(model), torch.rand(1, 3, 191, 140), receptive_radius(model.config)
    strips = upscale_strips(run, lambda r, c: image[..., r, c], (191, 140), 3, radius - 1, 64)
    assert not torch.equal(torch.cat(list(strips), 2), run(image))


@pytest.mark.parametrize("name", NETWORKS)
def test_radius_covers_the_traced_receptive_field(name):
    model = network(name)
    summary = summarize(model, torch.rand(1, model.config.num_channels, 64, 64))
    overlap = 2 * receptive_radius(model.config) + cell_side(model.config)
    assert summary.receptive_field <= overlap <= summary.receptive_field + 6


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pixels_of_every_kind(channels, dtype):
    model, pixels = network("plain"), noise(160, 150, channels, dtype)
    result = whole(pixels, model, tile=64)
    assert (result.shape, result.dtype) == ((320, 300, channels), dtype)
    assert np.array_equal(result, whole(pixels, model, tile=1000))
    alone = [whole(pixels[..., i : i + 1], model, tile=1000) for i in range(channels)]
    if channels in (2, 4):
        assert np.array_equal(result[..., -1:], alone[-1]), "transparency goes through the network like grey"
    if channels < 3:
        assert np.array_equal(result[..., :1], alone[0])


def test_strips_are_no_higher_than_a_tile():
    strips = list(upscale_pixels(noise(600, 170), network("plain"), tile=180, precision="fp32"))
    assert len(strips) > 3
    assert max(len(strip) for strip in strips) <= 2 * 180
    assert sum(len(strip) for strip in strips) == 1200


@pytest.mark.parametrize("size", [(250, 333), (300, 320), (80, 50), (301, 900), (1, 1)], ids=str)
def test_any_size_is_that_of_resampling_the_whole(size):
    model, pixels = network("plain"), noise(160, 150, 1, np.uint16)
    pixels = np.asarray(Image.fromarray(pixels[..., 0]).resize((150, 160), Image.Resampling.BILINEAR))[..., None]
    result = whole(pixels, model, tile=64, size=size).astype(int)
    assert result.shape == (size[1], size[0], 1)
    assert np.abs(result - whole(pixels, model, tile=1000, size=size)).max() <= 4
    native = Image.fromarray(whole(pixels, model)[..., 0].astype(np.float32))
    expected = np.asarray(native.resize(size, Image.Resampling.LANCZOS)).clip(0, 65535)
    assert np.abs(result[..., 0] - expected).max() <= 4


class Bicubic:
    """Any object will do that has a scale and gives a reconstruction; memory is short above `limit` pixels."""

    def __init__(self, limit: int = 10**9, message: str = "DefaultCPUAllocator: can't allocate memory"):
        self.config = SRGANConfig.from_preset("fast-tiny", scale=2)
        self.limit, self.message, self.areas = limit, message, []

    def __call__(self, pixel_values):
        self.areas.append(pixel_values[0, 0].numel())
        if self.areas[-1] > self.limit:
            raise RuntimeError(self.message)
        return SimpleNamespace(reconstruction=interpolate(pixel_values, scale_factor=2, mode="nearest"))


def test_smaller_tiles_are_tried_when_memory_is_short():
    pixels = noise(400, 500)
    model = Bicubic(limit=30_000)
    assert np.array_equal(whole(pixels, model, tile=1000), pixels.repeat(2, 0).repeat(2, 1))
    assert min(model.areas) <= 30_000 < max(model.areas)
    assert min(model.areas) > FEW_VALUES, "tiles that one thread would compute another way"


@pytest.mark.parametrize("message", ["DefaultCPUAllocator: can't allocate memory", "shapes do not match"])
def test_other_errors_and_hopeless_memory_are_raised(message):
    with pytest.raises(RuntimeError, match=message):
        whole(noise(400, 500), Bicubic(limit=0, message=message))


class Overflowing(torch.nn.Module):
    """Gives infinities in half precision, and in fp32 if `always`."""

    def __init__(self, always: bool = False):
        super().__init__()
        self.config = SimpleNamespace(scale=1, num_channels=3)
        self.conv = torch.nn.Conv2d(3, 3, 1, bias=False)
        torch.nn.init.dirac_(self.conv.weight)
        self.always = always

    def forward(self, pixel_values):
        values = self.conv(pixel_values)
        if values.dtype != torch.float32 or self.always:
            values = values / 0
        return SimpleNamespace(reconstruction=values)


def test_overflow_falls_back_to_fp32():
    pixels = noise(20, 30)
    assert np.array_equal(np.concatenate(list(upscale_pixels(pixels, Overflowing(), precision="bf16"))), pixels)
    with pytest.raises(FloatingPointError, match="weights are damaged"):
        list(upscale_pixels(pixels, Overflowing(always=True), precision="bf16"))


def test_half_precision_is_near_fp32():
    model, pixels = network("plain"), noise(160, 150)
    half = np.concatenate(list(upscale_pixels(pixels, model, precision="bf16", tile=64))).astype(int)
    difference = np.abs(half - whole(pixels, model))
    assert 0 < difference.max() <= 8
    assert difference.mean() < 0.6


def test_dtype_by_device_and_depth():
    cpu = torch.device("cpu")
    assert choose_dtype("auto", cpu, depth=16) == torch.float32
    assert choose_dtype("auto", cpu) in (torch.bfloat16, torch.float32)
    assert choose_dtype("bf16", cpu, depth=16) == torch.bfloat16
    with pytest.raises(ValueError, match="'int4'"):
        choose_dtype("int4", cpu)


def test_networks_without_a_known_radius_see_the_image_whole():
    model = Overflowing()
    seen = []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["pixel_values"].shape), with_kwargs=True
    )
    assert np.array_equal(whole(noise(300, 200), model, tile=50), noise(300, 200))
    assert seen == [(1, 3, 300, 200)]


@pytest.mark.parametrize(
    ("pixels", "options", "message"),
    [
        (noise(300, 300), {"tile": 12}, "all overlap.*at least 13"),
        (noise(3, 3).astype(np.float32), {}, "uint8 or uint16"),
        (noise(3, 3)[..., 0], {}, "uint8 or uint16"),
        (noise(0, 3), {}, "nothing to upscale"),
    ],
)
def test_what_cannot_be_upscaled_is_said(pixels, options, message):
    with pytest.raises(ValueError, match=message):
        list(upscale_pixels(pixels, network("plain"), **options))
