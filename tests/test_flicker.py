"""Flicker is measured where nothing moves, and only there."""

import math

import numpy as np
import pytest
import torch

from hfvision import camera_move, read_image, sample_photos
from hfvision.metrics.flicker import flicker, static_pixels
from hfvision.metrics.psnr import psnr
from hfvision.tasks.super_resolution.baselines import Upscaler, interpolations
from hfvision.tasks.video.flicker import TemporalEvaluation, to_tensor


def picture(height=40, width=60, channels=3) -> torch.Tensor:
    return torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_still_picture_is_static_and_does_not_flicker(channels):
    image = picture(channels=channels)
    static = static_pixels(image, image)
    assert static.all()
    assert static.shape == (1, 1, 40, 60)
    large = picture(80, 120, channels)
    total, count = flicker(large, large, static)
    assert (total.item(), count.item()) == (0, 80 * 120)


def test_what_moves_is_left_out_with_its_surroundings():
    before, after = torch.zeros(1, 3, 40, 60), torch.zeros(1, 3, 40, 60)
    after[..., 10:14, 20:24] = 1
    static = static_pixels(before, after, radius=3)[0, 0]
    moved = torch.ones(40, 60, dtype=torch.bool)
    moved[7:17, 17:27] = False
    assert torch.equal(static, moved)
    large = after.repeat_interleave(2, 2).repeat_interleave(2, 3)
    total, count = flicker(torch.zeros_like(large), large, static[None, None])
    assert (total.item(), count.item()) == (0, 4 * moved.sum().item())


def test_noise_within_the_tolerance_is_static_and_more_is_not():
    image = torch.full((1, 1, 8, 8), 0.5)
    assert static_pixels(image, image + 2 / 255).all()
    assert not static_pixels(image, image + 3 / 255).any()
    assert static_pixels(image, image + 3 / 255, tolerance=3 / 255).all()


def test_flicker_of_noise_is_what_statistics_say():
    generator = torch.Generator().manual_seed(1)
    before, after = (0.5 + 0.02 * torch.randn(1, 1, 400, 400, generator=generator) for _ in range(2))
    total, count = flicker(before, after, torch.ones(1, 1, 200, 200, dtype=torch.bool))
    assert (total / count).item() == pytest.approx(2 * 0.02 / math.sqrt(math.pi), rel=0.01)


def test_pairs_are_counted_each_by_itself():
    before = picture().expand(2, -1, -1, -1)
    after = before.clone()
    after[1] = 1 - after[1]
    static = torch.tensor([True, False])[:, None, None, None].expand(2, 1, 40, 60)
    total, count = flicker(before, after, static)
    assert total.tolist() == [0, 0]
    assert count.tolist() == [2400, 0]


def test_what_cannot_be_compared_is_refused():
    image = picture()
    with pytest.raises(ValueError, match="one shape"):
        static_pixels(image, image[..., :30])
    with pytest.raises(ValueError, match="no whole multiple"):
        flicker(image, image, torch.ones(1, 1, 27, 60, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        static_pixels(image * 255, image * 255)


def test_a_restless_upscaler_flickers_and_a_steady_one_does_not():
    """The right half stands still, a bar runs through the left one."""
    photo = read_image(sample_photos()["coffee"]).convert("RGB")
    frames = [frame.copy() for frame in camera_move(photo, 6, (96, 64), end=(0.5, 0.5, 1.0))]
    for number, frame in enumerate(frames):
        frame[:, 4 * number : 4 * number + 4] = 255
    bicubic = interpolations(2)[0]
    moment = iter(range(100))

    def restless(x):
        return (bicubic.run(x).clamp(0.05, 0.95) + (4 / 255) * (-1) ** next(moment)).float()

    evaluation = TemporalEvaluation([bicubic, Upscaler("restless", 2, restless)])
    seen = list(evaluation.run(iter(frames)))
    record = evaluation.record()
    assert [set(images) for images in seen] == [{"small", "original", bicubic.name, "restless"}] * 6
    assert record["frames"] == 6
    assert 0.5 < record["static"] < 0.9
    assert record["flicker"][bicubic.name] < 0.05
    # Of a change of 8 levels of RGB, luma shows 219/255.
    assert record["flicker"]["restless"] == pytest.approx(8 * 219 / 255, abs=0.3)
    known = [psnr(images[bicubic.name], to_tensor(f), crop=2).item() for images, f in zip(seen, frames, strict=True)]
    assert record["psnr"][bicubic.name] == pytest.approx(np.mean(known))


def test_frames_are_taken_as_they_are_needed():
    def endless():
        while True:
            yield np.zeros((8, 10, 3), np.uint8)

    evaluation = TemporalEvaluation(interpolations(2)[:1])
    assert len(list(evaluation.run(endless(), 3))) == 3
    assert evaluation.record()["static"] == pytest.approx(1)
    with pytest.raises(ValueError, match="one scale"):
        TemporalEvaluation([interpolations(2)[0], interpolations(3)[0]])
