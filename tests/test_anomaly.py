"""Anomalies: a GAN trained for seconds on one kind of pattern finds others, and says where they are."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hfvision import (
    AnomalyDetector,
    SRGANConfig,
    SRGANDiscriminator,
    SRGANForImageSuperResolution,
    damage,
    fit_detector,
    load_detector,
)
from hfvision.cli.main import main
from hfvision.data.transforms.keyed import image_keys
from hfvision.metrics.auroc import auroc
from hfvision.tasks.anomaly.gan import (
    heat_picture,
    load_networks,
    neighbour_distance,
    resize_and_normalize,
    stack_images,
)

SIZE = 32
TRAIN = ["--scale", "4", "--crop", "8", "--turn", "false", "--batch-size", "16", "--epochs", "1", "--warmup", "0.1"]


def stripes(count: int, seed: int, upright: bool = True) -> list[Image.Image]:
    """Grey images of stripes as wide as three pixels, in random light, moved at random."""
    random = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        wave = np.sin((np.arange(SIZE) + random.uniform(0, 6)) * 2 * np.pi / 6) * random.uniform(30, 70)
        pixels = np.tile(wave + random.uniform(80, 160), (SIZE, 1)) + random.normal(0, 2, (SIZE, SIZE))
        images.append(Image.fromarray((pixels if upright else pixels.T).clip(0, 255).astype(np.uint8)))
    return images


def written(images: list[Image.Image], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        image.save(folder / f"{number:03}.png")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Trained and fitted from the command line."""
    folder = tmp_path_factory.mktemp("anomaly")
    train = written(stripes(60, 0), folder / "train")
    words = ["train", "superres", "--data", str(train), *TRAIN]
    fields = ["--model-fields", "{num_channels: 1, hidden_size: 16, block_widths: [[16]]}"]
    start = ["--model", "fast-tiny", *fields, "--steps-per-epoch", "80", "--out", str(folder / "pixels")]
    assert main([*words, *start]) == 0
    second = ["--model", str(folder / "pixels"), "--model-fields", "{discriminator_width: 4}", "--gan", "vanilla"]
    assert main([*words, *second, "--steps-per-epoch", "20", "--out", str(folder / "gan")]) == 0
    normal = written(stripes(200, 1), folder / "normal")
    assert main(["detect", "fit", str(folder / "gan"), "--method", "gan", "--normal", str(normal)]) == 0
    return folder / "gan"


@pytest.fixture(scope="module")
def detector(model) -> AnomalyDetector:
    return load_detector(model)


def pixels(images: list[Image.Image]) -> torch.Tensor:
    return stack_images(images, SIZE, 1)


NORMAL = pixels(stripes(100, 2))
KEYS = image_keys(0, 0, torch.arange(100))


@pytest.mark.parametrize("kind", ["unseen", "occluded", "defaced", "broken"])
def test_each_kind_of_anomaly_is_found(detector, kind):
    other = pixels(stripes(100, 3, upright=False)) if kind == "unseen" else damage(NORMAL, kind, KEYS)
    scores = torch.cat([detector(NORMAL).score, detector(other).score])
    assert auroc(scores, torch.arange(200) >= 100) > 0.9


def test_the_threshold_keeps_its_promise_on_new_normal_images(detector):
    assert detector.normality.false_alarms == pytest.approx(0.05, abs=0.006)
    alarms = detector(pixels(stripes(400, 4))).anomalous.double().mean().item()
    assert 0.01 < alarms < 0.12


def test_the_heat_is_where_the_damage_is(detector):
    damaged = damage(NORMAL, "occluded", KEYS)
    changed = (damaged != NORMAL)[:, 0]
    heat = detector(damaged).heat
    assert heat.shape == (100, SIZE, SIZE)
    inside = torch.stack([each[where].mean() / each[~where].mean() for each, where in zip(heat, changed, strict=True)])
    assert (inside > 1.5).double().mean() > 0.9
    assert detector(NORMAL).heat.mean() == pytest.approx(1, rel=0.3)


def test_an_image_does_not_depend_on_those_beside_it_nor_on_its_light(detector):
    whole = detector(NORMAL)
    alone = detector(NORMAL[7:8])
    torch.testing.assert_close(alone.score[0], whole.score[7], rtol=1e-3, atol=1e-3)
    brighter = resize_and_normalize(NORMAL.float() / 255 * 0.5 + 0.25, SIZE)
    torch.testing.assert_close(brighter, resize_and_normalize(NORMAL, SIZE), rtol=0, atol=0.02)
    larger = detector(NORMAL.repeat_interleave(3, 2).repeat_interleave(3, 3))
    assert larger.heat.shape == whole.heat.shape


def test_fitting_again_and_loading_give_the_same(model, detector, tmp_path):
    normal = pixels(stripes(200, 1))
    again = fit_detector(*load_networks(model), normal, SIZE)
    assert torch.allclose(again(NORMAL).score, detector(NORMAL).score, atol=1e-4)
    assert again.normality.threshold == pytest.approx(detector.normality.threshold, abs=1e-4)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("kind", ["unet", "srgan"])
def test_any_scale_and_discriminator(kind, scale):
    torch.manual_seed(0)
    fields = {"scale": scale, "discriminator": kind, "discriminator_width": 4, "hidden_size": 8, "block_widths": [[8]]}
    config = SRGANConfig.from_preset("fast-tiny", **fields)
    networks = SRGANForImageSuperResolution(config).eval(), SRGANDiscriminator(config).eval()
    found = fit_detector(*networks, torch.rand(40, 3, 24, 24), 24)(torch.rand(2, 3, 30, 40))
    assert found.heat.shape == (2, 24, 24)
    assert found.score.isfinite().all()


def test_the_command_scores_images_and_draws_heat(model, tmp_path, capsys):
    folder = written([*stripes(3, 5), *stripes(2, 5, upright=False)], tmp_path / "new")
    words = ["detect", "anomalies", str(folder), "--model", str(model), "--out", str(tmp_path / "heat")]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [result["anomalous"] for result in told["results"]][3:] == [True, True]
    for result in told["results"]:
        assert result["anomalous"] == (result["score"] > told["threshold"])
        assert set(result["parts"]) == {"restoration", "residual", "realism", "peak"}
    with Image.open(tmp_path / "heat" / "000_anomaly.png") as picture:
        assert picture.width == 2 * picture.height
    assert main(words) == 2
    assert "exists already: use --force" in capsys.readouterr().err
    assert main([*words, "--force"]) == 0
    assert "ANOMALOUS" in capsys.readouterr().out


def test_heat_is_dark_where_normal_and_bright_where_not():
    heat = torch.ones(8, 8)
    heat[:4] = 20
    picture = np.asarray(heat_picture(torch.full((1, 8, 8), 100, dtype=torch.uint8), heat, side=8)).astype(int)
    assert picture.shape == (8, 16, 3)
    assert (picture[:, :8] == 100).all()
    assert picture[:4, 8:].min() > picture[4:, 8:].max()


def test_neighbours_are_near_in_direction():
    normal = torch.tensor([[1.0, 0.0], [2.0, 0.1], [3.0, -0.1]])
    distances = neighbour_distance(torch.tensor([[5.0, 0.0], [0.0, 1.0]]), normal, neighbours=1)
    assert distances[0] < 0.01
    assert distances[1] > 1.3


def test_what_cannot_be_done_is_said_in_one_line(model, tmp_path, capsys):
    def error(*words) -> str:
        assert main(["detect", *map(str, words)]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert lines[-1].startswith("hfvision: error: ")
        return lines[-1]

    few = written(stripes(5, 0), tmp_path / "few")
    assert "needs 20 normal images, got 5" in error("fit", model, "--method", "gan", "--normal", few)
    assert "above 0 and below 1, got 2" in error("fit", model, "--method", "gan", "--normal", few, "--false-alarms", 2)
    assert "multiple of the scale 4" in error("fit", model, "--method", "gan", "--normal", few, "--size", 30)
    assert "has no discriminator" in error("anomalies", few, "--model", model.parent / "pixels")
    assert "There is no file or folder" in error("anomalies", few, "--model", tmp_path / "nowhere")
    bare = tmp_path / "bare"
    shutil.copytree(model, bare)
    (bare / "anomaly.json").unlink()
    assert "does not say what is normal" in error("anomalies", few, "--model", bare)
    (bare / "anomaly.json").write_text("{}")
    assert "cannot be read" in error("anomalies", few, "--model", bare)
    (bare / "record.json").unlink()
    assert "give it with --size" in error("fit", bare, "--method", "gan", "--normal", few)
    with pytest.raises(ValueError, match=r"got the shape \(3, 32, 32\)"):
        resize_and_normalize(torch.zeros(3, 32, 32), SIZE)
