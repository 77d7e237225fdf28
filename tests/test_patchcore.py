"""PatchCore: fitted to one kind of pattern it finds others, says where they are, and loads as it was saved."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from test_anomaly import pixels, stripes, written

from hfvision import PatchCore, PatchCoreConfig, damage, fit_patchcore, load_detector, save_patchcore
from hfvision.cli.main import main
from hfvision.data.transforms.keyed import image_keys
from hfvision.metrics.auroc import auroc
from hfvision.tasks.anomaly.memory import Memory, greedy_coreset
from hfvision.tasks.anomaly.patchcore import FILE, TENSORS, peak_score

NORMAL = pixels(stripes(30, 2))
KEYS = image_keys(0, 0, torch.arange(30))


@pytest.fixture(scope="module")
def detector() -> PatchCore:
    return fit_patchcore(pixels(stripes(60, 1)))


@pytest.fixture(scope="module")
def model(detector, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("patchcore") / "normal"
    save_patchcore(detector, folder)
    return folder


@pytest.mark.parametrize("kind", ["unseen", "occluded", "defaced", "broken"])
def test_each_kind_of_anomaly_is_found(detector, kind):
    other = pixels(stripes(30, 3, upright=False)) if kind == "unseen" else damage(NORMAL, kind, KEYS)
    scores = torch.cat([detector(NORMAL).score, detector(other).score])
    assert auroc(scores, torch.arange(60) >= 30) > 0.9


def test_the_heat_is_where_the_damage_is(detector):
    damaged = damage(NORMAL, "occluded", KEYS)
    changed = (damaged != NORMAL)[:, 0].float()
    found = detector(damaged)
    assert found.heat.shape == (30, 128, 128)
    heat = torch.nn.functional.interpolate(found.heat[:, None], changed.shape[-2:], mode="area")[:, 0]
    assert auroc(heat.flatten(), changed.flatten().bool()) > 0.85
    assert detector(NORMAL).heat.mean() == pytest.approx(1, rel=0.3)


def test_an_image_does_not_depend_on_those_beside_it_nor_on_its_channels(detector):
    whole, alone = detector(NORMAL[:20]), detector(NORMAL[17:18])
    torch.testing.assert_close(alone.score[0], whole.score[17], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(detector(NORMAL[:3].expand(-1, 3, -1, -1)).score, whole.score[:3], rtol=1e-4, atol=1e-4)
    assert detector(torch.rand(1, 3, 16, 900)).score.isfinite().all()


def test_it_loads_as_it_was_saved(detector, model):
    again = load_detector(model)
    assert isinstance(again, PatchCore)
    assert again.config == detector.config
    torch.testing.assert_close(again(NORMAL[:4]).score, detector(NORMAL[:4]).score)
    assert {path.name for path in model.iterdir()} == {FILE, TENSORS}
    bank = load_file(model / TENSORS)["patches.bank"]
    assert len(bank) == -(-60 * 256 // round(1 / detector.config.coreset))


def test_the_coreset_reaches_what_is_rare():
    features = torch.cat([torch.randn(500, 3), torch.tensor([[50.0, 0, 0], [0, 50.0, 0]])])
    chosen = greedy_coreset(features, 10, seed=0)
    assert len(set(chosen.tolist())) == 10
    assert {500, 501} <= set(chosen.tolist())
    reach = torch.cdist(features, features[chosen]).min(1).values.max()
    assert reach < torch.cdist(features, features[:10]).min(1).values.max()
    assert greedy_coreset(features, 600, seed=0).tolist() == list(range(502))


def test_the_score_of_an_image_is_that_of_equation_7():
    generator = torch.Generator().manual_seed(0)
    bank, patches = torch.rand(20, 4, generator=generator), torch.rand(1, 6, 4, generator=generator) + 1
    memory = Memory(torch.zeros(4), torch.eye(4), bank, unit=False)
    distances, indices = torch.cdist(patches, bank).min(2)
    score = peak_score(patches, distances, indices, memory, PatchCoreConfig(peak=0, neighbors=3))
    patch = patches[0, distances[0].argmax()]
    nearest = bank[(bank - patch).norm(dim=1).argmin()]
    around = bank[(bank - nearest).norm(dim=1).argsort()[:3]]
    farthest = (patch - nearest).norm()
    expected = (1 - farthest.exp() / (patch - around).norm(dim=1).exp().sum()) * farthest
    assert score.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_commands_fit_score_and_draw(tmp_path, capsys):
    normal = written(stripes(40, 1), tmp_path / "normal")
    new = written([*stripes(2, 5), *stripes(2, 5, upright=False)], tmp_path / "new")
    assert main(["detect", "fit", str(tmp_path / "model"), "--normal", str(normal)]) == 0
    assert "40 normal images, 5.0% of them above the threshold" in capsys.readouterr().out
    words = ["detect", "anomalies", str(new), "--json"]
    assert main([*words, "--model", str(tmp_path / "model"), "--output-dir", str(tmp_path / "heat")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [result["anomalous"] for result in told["results"]][2:] == [True, True]
    assert set(told["results"][0]["parts"]) == {"patches", "layouts"}
    with Image.open(tmp_path / "heat" / "000_anomaly.png") as picture:
        assert picture.width == 2 * picture.height
    assert main([*words, "--normal", str(normal)]) == 0
    assert json.loads(capsys.readouterr().out) == told


def test_what_cannot_be_done_is_said_in_one_line(model, tmp_path, capsys):
    def error(*words) -> str:
        assert main(["detect", *map(str, words)]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert lines[-1].startswith("hfvision: error: ")
        return lines[-1]

    few = written(stripes(5, 0), tmp_path / "few")
    tiny = written([Image.new("RGB", (9, 400))], tmp_path / "tiny")
    (tmp_path / "empty").mkdir()
    assert "needs 20 normal images, got 5" in error("fit", tmp_path / "new", "--normal", few)
    assert "above 0 and below 1, got 2" in error("fit", tmp_path / "new", "--normal", few, "--false-alarms", 2)
    assert "multiple of 32" in error("fit", tmp_path / "new", "--normal", few, "--size", 100)
    assert "9×400 pixels: at least 16" in error("fit", tmp_path / "new", "--normal", tiny)
    assert "empty" in error("fit", tmp_path / "new", "--normal", tmp_path / "empty")
    assert not (tmp_path / "new").exists()
    assert "exists already: use --force" in error("fit", model, "--normal", few)
    assert "Say what is normal" in error("anomalies", few)
    assert "Say what is normal" in error("anomalies", few, "--normal", few, "--model", model)
    assert "A GAN is trained first" in error("anomalies", few, "--normal", few, "--method", "gan")
    assert "There is no model in" in error("anomalies", few, "--model", tmp_path / "empty")
    assert "has no config.json" in error("anomalies", few, "--model", model, "--method", "gan")
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    known, tensors = json.loads((model / FILE).read_text()), load_file(model / TENSORS)
    for change in ({"stages": [9]}, {"image_size": "large"}, {"other": 1}, {"model": "cnn-cifar10"}):
        (broken / FILE).write_text(json.dumps(known | {"config": known["config"] | change}))
        assert "cannot be read" in error("anomalies", few, "--model", broken)
    (broken / FILE).write_text(json.dumps(known))
    save_file(tensors | {"patches.bank": tensors["patches.bank"][:, 1:].contiguous()}, broken / TENSORS)
    assert "cannot be read" in error("anomalies", few, "--model", broken)
    (broken / TENSORS).unlink()
    assert "does not hold patchcore.json and patchcore.safetensors" in error("anomalies", few, "--model", broken)
    with pytest.raises(ValueError, match=r"got the shape \(16, 32, 32\)"):
        fit_patchcore(torch.zeros(20, 32, 32))
