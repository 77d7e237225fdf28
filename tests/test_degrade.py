from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms.v2.functional import pil_to_tensor

from hfvision.data.io.images import read_image
from hfvision.data.transforms.resize import downscale, modcrop, quantize_8bit, resize_bicubic
from hfvision.metrics.psnr import psnr

EVAL = Path(__file__).parents[2] / "shared" / "data" / "superres" / "eval"


def row(*values):
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def impulse_response(length, at, new_length, **options):
    x = torch.zeros(1, 1, 1, length, dtype=torch.float64)
    x[..., at] = 1
    return resize_bicubic(x, (1, new_length), **options).flatten()


@pytest.mark.parametrize("scale", [0.25, 1 / 3, 0.7, 1, 1.5, 2, 3])
@pytest.mark.parametrize("antialias", [True, False])
def test_constant_is_preserved(scale, antialias):
    y = resize_bicubic(torch.full((1, 2, 11, 13), 0.3, dtype=torch.float64), scale, antialias)
    torch.testing.assert_close(y, torch.full_like(y, 0.3), rtol=0, atol=1e-12)


def test_ramp_is_preserved_inside_when_enlarged():
    y = resize_bicubic(torch.arange(12, dtype=torch.float64).view(1, 1, 1, -1), (1, 24)).flatten()
    inside = slice(6, 18)
    torch.testing.assert_close(y[inside], (torch.arange(24, dtype=torch.float64)[inside] + 0.5) / 2 - 0.5)


def test_doubling_uses_keys_weights_at_quarters():
    # k(1/4), k(3/4), k(5/4), k(7/4) of the kernel with a = -0.5 are 111, 29, -9, -3 of 128
    expected = torch.tensor([-3, -9, 29, 111, 111, 29, -9, -3], dtype=torch.float64) / 128
    torch.testing.assert_close(impulse_response(9, 4, 18)[5:13], expected)


def test_halving_stretches_the_kernel_over_eight_pixels():
    # k(1/8 + n/4) / 2: distances 0.25, 0.75, 1.25, 1.75 after the stretch by two
    kernel = torch.tensor([-3, -9, 29, 111, 111, 29, -9, -3], dtype=torch.float64) / 256
    response = torch.stack([impulse_response(16, at, 8)[4] for at in range(16)])
    torch.testing.assert_close(response[5:13], kernel)
    assert response[:5].abs().sum() == 0
    assert response[13:].abs().sum() == 0


def test_without_antialiasing_halving_reads_four_pixels():
    response = torch.stack([impulse_response(16, at, 8, antialias=False)[4] for at in range(16)])
    torch.testing.assert_close(response[7:11], torch.tensor([-1, 9, 9, -1], dtype=torch.float64) / 16)
    assert response.count_nonzero() == 4


def test_border_repeats_the_edge_pixel_and_mirrors():
    x = row(0.1, 0.9, 0.4, 0.2, 0.7, 0.3)
    mirrored = torch.cat([x.flip(-1), x, x.flip(-1)], -1)
    torch.testing.assert_close(resize_bicubic(x, (1, 12)), resize_bicubic(mirrored, (1, 36))[..., 12:24])
    torch.testing.assert_close(resize_bicubic(x, (1, 3)), resize_bicubic(mirrored, (1, 9))[..., 3:6])


def test_small_case_by_hand():
    # one pixel from two, kernel over eight: mirrored twice, each pixel gets half the weight
    torch.testing.assert_close(resize_bicubic(row(0.2, 0.6), (1, 1)), row(0.4))
    # 0.2, 1.0 doubled: first value -9/128·x1 + 29/128·x0 + 111/128·x0 - 3/128·x1
    torch.testing.assert_close(resize_bicubic(row(0.2, 1.0), (1, 4))[..., 0], row(140 / 128 * 0.2 - 12 / 128)[..., 0])


def test_agrees_with_a_direct_sum_over_taps_at_an_odd_factor():
    def keys(t):
        t = abs(t)
        return 1.5 * t**3 - 2.5 * t**2 + 1 if t <= 1 else max(2 - t, 0) and -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2

    x, scale = np.random.default_rng(0).random(23), 0.37
    expected = []
    for i in range(int(np.ceil(23 * scale))):
        centre = (i + 0.5) / scale - 0.5
        weights = {j: keys((centre - j) * scale) for j in range(-23, 46)}
        mirrored = {j: -1 - j if j < 0 else 45 - j if j > 22 else j for j in weights}
        expected.append(sum(w * x[mirrored[j]] for j, w in weights.items()) / sum(weights.values()))
    y = resize_bicubic(torch.from_numpy(np.tile(x, (23, 1)))[None, None], scale)
    np.testing.assert_allclose(y[0, 0, 4], expected, atol=1e-12)


def test_rows_and_columns_are_resized_alike():
    x = torch.rand(2, 3, 9, 14, dtype=torch.float64)
    torch.testing.assert_close(resize_bicubic(x, (5, 20)).mT, resize_bicubic(x.mT, (20, 5)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_kept_and_values_agree(dtype):
    x = torch.rand(1, 3, 12, 12).to(dtype)
    y = resize_bicubic(x, 0.5)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), resize_bicubic(x.double(), 0.5), rtol=0, atol=2 * torch.finfo(dtype).eps)


def test_size_is_rounded_up_and_exact_for_thirds():
    assert resize_bicubic(torch.rand(1, 1, 10, 99), 1 / 3).shape[-2:] == (4, 33)
    assert resize_bicubic(torch.rand(1, 1, 1, 1), 4).shape[-2:] == (4, 4)


def test_gradient():
    x = torch.rand(1, 1, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: resize_bicubic(t, (3, 8)), x)


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf"), (0, 4), (2.5, 4), (1, 2, 3)])
def test_bad_scales_are_refused(scale):
    with pytest.raises(ValueError, match="must be"):
        resize_bicubic(torch.rand(1, 1, 4, 4), scale)


def test_tensors_that_are_not_float_images_are_refused():
    for x in (torch.zeros(1, 1, 4, 4, dtype=torch.uint8), torch.zeros(4, 4), torch.zeros(1, 1, 0, 4)):
        with pytest.raises(ValueError, match="float tensor"):
            resize_bicubic(x, 2)


def test_quantize_rounds_and_clamps():
    x = torch.tensor([-0.2, 0.4 / 255, 0.6 / 255, 7 / 255, 1.3])
    torch.testing.assert_close(quantize_8bit(x), torch.tensor([0, 0, 1, 7, 255]) / 255)


def test_downscale_gives_8bit_values_in_range():
    x = (torch.rand(2, 3, 24, 36) > 0.5).float()
    y = downscale(x, 3)
    assert y.shape == (2, 3, 8, 12)
    assert y.min() >= 0
    assert y.max() <= 1
    torch.testing.assert_close(y * 255, (y * 255).round(), rtol=0, atol=1e-4)


def test_modcrop_cuts_right_and_bottom():
    x = torch.arange(5 * 7.0).view(1, 1, 5, 7)
    assert torch.equal(modcrop(x, 3), x[..., :3, :6])
    with pytest.raises(ValueError, match="smaller than scale 8"):
        modcrop(x, 8)


@pytest.mark.skipif(not EVAL.is_dir(), reason="needs the test sets Set5 and Set14")
@pytest.mark.parametrize(
    ("name", "scale", "expected"),
    [
        *(("Set5", 2, 33.66), ("Set5", 3, 30.39), ("Set5", 4, 28.42)),
        *(("Set14", 2, 30.23), ("Set14", 3, 27.54), ("Set14", 4, 26.00)),
    ],
)
def test_protocol_gives_the_published_bicubic_figures(name, scale, expected):
    scores = []
    for path in sorted((EVAL / name).iterdir()):
        image = read_image(path)
        x = modcrop(pil_to_tensor(image)[None].double() / 255, scale)
        if (name, path.stem) == ("Set14", "img_003"):
            x = x[:, :1]  # the bridge: the one file of the set with a single channel
        restored = quantize_8bit(resize_bicubic(downscale(x, scale), scale))
        scores.append(psnr(restored, x, crop=scale).item())
    assert np.mean(scores) == pytest.approx(expected, abs=0.03)
