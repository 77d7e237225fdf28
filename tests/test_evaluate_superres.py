import json
import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from hfvision import SRGANConfig, SRGANForImageSuperResolution, SRGANImageProcessor, read_image, sample_photos
from hfvision.cli.main import main
from hfvision.tasks.super_resolution.baselines import Upscaler, interpolations, network, opencv_networks
from hfvision.tasks.super_resolution.cost import cpu_cost, plain_stack
from hfvision.tasks.super_resolution.evaluate import evaluate_superres, find_sets, measure_sets

DATA = Path(os.environ.get("HFVISION_SUPERRES_DATA", Path(__file__).parents[2] / "shared/data/superres"))

# PSNR and SSIM of MATLAB's bicubic by basicsr 1.4.2 (`imresize`) and scikit-image.
BICUBIC = {
    ("cat", 2): (35.2586, 0.9160),
    ("cat", 3): (32.8912, 0.8542),
    ("cat", 4): (31.4758, 0.8064),
    ("coffee", 2): (30.5966, 0.8861),
    ("coffee", 3): (28.4070, 0.8135),
    ("coffee", 4): (27.2921, 0.7649),
}


def untrained(scale, channels=3, **fields):
    """A network that gives what bicubic gives."""
    torch.manual_seed(0)
    config = SRGANConfig(scale=scale, num_channels=channels, hidden_size=8, block_widths=[[8]], **fields)
    return SRGANForImageSuperResolution(config).eval()


def save(model, folder):
    model.save_pretrained(folder)
    SRGANImageProcessor(num_channels=model.config.num_channels).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def photos(tmp_path):
    """A folder of two colour photographs and a grey one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("cat", "coffee"):
        read_image(sample_photos()[name]).convert("RGB").save(folder / f"{name}.png")
    read_image(sample_photos()["cat"]).convert("L").save(folder / "grey.png")
    return folder


@pytest.mark.skipif(not (DATA / "eval").is_dir(), reason="Set5 and Set14 are not here: HFVISION_SUPERRES_DATA")
@pytest.mark.parametrize(("scale", "set5", "set14"), [(2, 33.66, 30.23), (3, 30.39, 27.54), (4, 28.42, 26.00)])
def test_bicubic_has_the_figures_of_the_literature(scale, set5, set14):
    figures = measure_sets(interpolations(scale)[:1], find_sets([DATA / "eval"]))
    means = figures["results"][f"bicubic ×{scale}"]
    assert means["Set5"]["psnr"] == pytest.approx(set5, abs=0.03)
    assert means["Set14"]["psnr"] == pytest.approx(set14, abs=0.03)
    if scale == 4:
        assert figures["originals"]["Set14"]["niqe"] == pytest.approx(4.94, abs=0.03)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_agrees_with_others_on_photographs(photos, scale):
    each = measure_sets(interpolations(scale)[:1], {"photos": photos})["each"][f"bicubic ×{scale}"]["photos"]
    for name in ("cat", "coffee"):
        psnr, ssim = BICUBIC[name, scale]
        assert each[f"{name}.png"]["psnr"] == pytest.approx(psnr, abs=2e-3)
        assert each[f"{name}.png"]["ssim"] == pytest.approx(ssim, abs=2e-4)


def test_grey_files_stay_grey(photos):
    """In 0..255 the error is 255/219 of that of the luma of the same image as colour, in 16..235."""
    Image.open(photos / "grey.png").convert("RGB").save(photos / "colour.png")
    each = measure_sets(interpolations(2), {"photos": photos})["each"]
    for by_set in each.values():
        grey, colour = (by_set["photos"][name]["psnr"] for name in ("grey.png", "colour.png"))
        assert colour - grey == pytest.approx(20 * torch.tensor(255 / 219).log10().item(), abs=0.01)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [2, 3])
def test_a_network_is_measured_by_its_reconstruction(photos, scale, channels):
    upscalers = [interpolations(scale)[0], network("untrained", untrained(scale, channels))]
    bicubic, ours = measure_sets(upscalers, {"photos": photos})["each"].values()
    for name, row in bicubic["photos"].items():
        # The luma of rounded colours is not quite the rounded luma.
        assert ours["photos"][name]["psnr"] == pytest.approx(row["psnr"], abs=0.1 if channels == 1 else 2e-3)


def test_means_are_over_the_images_that_have_a_figure(tmp_path):
    read_image(sample_photos()["cat"]).convert("RGB").save(tmp_path / "a.png")
    Image.new("RGB", (40, 40), "red").save(tmp_path / "b.png")
    figures = measure_sets(interpolations(2)[:1], {"set": tmp_path})
    mean, each = figures["results"]["bicubic ×2"]["set"], figures["each"]["bicubic ×2"]["set"]
    assert each["b.png"] == {"psnr": None, "ssim": pytest.approx(1), "perceptual": 0, "niqe": None}
    assert mean["psnr"] == pytest.approx(each["a.png"]["psnr"], abs=1e-4)
    assert mean["niqe"] == pytest.approx(each["a.png"]["niqe"], abs=1e-4)


def test_who_restores_an_image_exactly_does_not_lose_it_from_the_mean(photos):
    bicubic = interpolations(2)[0]
    Image.open(photos / "grey.png").crop((0, 0, 200, 100)).save(photos / "grey.png")
    grey = pil_to_tensor(Image.open(photos / "grey.png"))[None] / 255
    exact = Upscaler("exact on grey", 2, lambda small: grey if small.shape[1] == 1 else bicubic(small))
    figures = measure_sets([bicubic, exact], {"photos": photos})
    assert figures["each"]["exact on grey"]["photos"]["grey.png"]["psnr"] is None
    others, ours = (by_set["photos"] for by_set in figures["results"].values())
    assert ours["psnr"] == others["psnr"]
    assert ours["ssim"] > others["ssim"]


def test_costs_grow_with_the_work():
    small, large = (cpu_cost(plain_stack(depth, 4, "fp32")) for depth in (1, 30))
    assert large["cpu_seconds_per_megapixel"] > 3 * small["cpu_seconds_per_megapixel"] > 0
    assert large["threaded_seconds_per_megapixel"] > small["threaded_seconds_per_megapixel"] > 0
    if small["peak_memory_mb"] is not None:
        assert 1 < cpu_cost(plain_stack(4, 2, "fp32"))["peak_memory_mb"] < 200


def test_folders_become_sets(tmp_path):
    for name in ("sets/one/a.png", "sets/two/deep/b.png", "sets/empty/c.txt", "three/d.png", "three/below/e.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("png"):
            Image.new("RGB", (32, 32)).save(tmp_path / name)
    found = find_sets([tmp_path / "sets", tmp_path / "three"])
    assert found == {
        "one": tmp_path / "sets/one",
        "two": tmp_path / "sets/two",
        "three": tmp_path / "three",
    }
    with pytest.raises(ValueError, match="are called one"):
        find_sets([tmp_path / "sets", tmp_path / "sets/one"])
    with pytest.raises(ValueError, match="holds no images"):
        find_sets([tmp_path / "sets/empty"])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_sets([tmp_path / "nowhere"])


def test_opencv_networks_are_named_after_what_they_are(tmp_path):
    with pytest.raises(ValueError, match="FSRCNN_x2"):
        opencv_networks([tmp_path / "network.pb"])
    with pytest.raises(FileNotFoundError, match="ESPCN_x4"):
        opencv_networks([tmp_path / "ESPCN_x4.pb"])


def test_opencv_interpolates_as_its_kernels_do():
    pytest.importorskip("cv2")
    x = pil_to_tensor(read_image(sample_photos()["cat"]).convert("RGB"))[None, :, :100, :90] / 255
    bicubic, _, other_bicubic, lanczos = (upscaler(x) for upscaler in interpolations(3))
    for result in (other_bicubic, lanczos):
        assert result.shape == bicubic.shape
        assert (result - bicubic).abs().mean() < 0.01


def test_command_line(photos, tmp_path, capsys):
    model = save(untrained(3), tmp_path / "model")
    out = tmp_path / "report"
    assert main(["evaluate", "superres", model, "--data", str(photos), "--out", str(out), "--dtype", "bf16"]) == 0
    printed = capsys.readouterr().out
    record = json.loads((out / "superres.json").read_text())
    result = record["results"][model]
    assert record["images"] == {"photos": 3}
    assert record["dtype"] == "bf16"
    assert result["parameters"] == untrained(3).num_parameters()
    assert {"cpu_seconds_per_megapixel_fp32", "cpu_seconds_per_megapixel_bf16"} < result.keys()
    for row in (record["results"]["bicubic ×3"], result):
        figures = row["sets"]["photos"]
        parts = (
            f"{figures['psnr']:.2f}",
            f"{figures['ssim']:.4f}",
            f"{figures['perceptual']:.3f}",
            f"{figures['niqe']:.2f}",
        )
        assert " / ".join(parts) in printed
        assert 28 < figures["psnr"] < 34
    assert f"{record['originals']['×3']['photos']['niqe']:.2f}" in printed
    picture = Image.open(out / "superres_x3.png")
    assert picture.width > 4 * 192
    assert picture.height > 3 * 192
    assert main(["evaluate", "superres", model, "--data", str(photos), "--out", str(out)]) == 2
    assert "use --force" in capsys.readouterr().err


def test_scales_are_measured_apart(photos):
    for name in ("cat.png", "grey.png"):
        (photos / name).unlink()
    record = evaluate_superres({"two": untrained(2), "four": untrained(4)}, {"photos": photos})
    assert {name: row["scale"] for name, row in record["results"].items() if name in ("two", "four")} == {
        "two": 2,
        "four": 4,
    }
    assert record["results"]["two"]["sets"]["photos"]["psnr"] > record["results"]["four"]["sets"]["photos"]["psnr"]
    assert record["originals"].keys() == {"×2", "×4"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sr-tiny-x2", "--data", "nowhere"], "There is no file or folder nowhere"),
        (["sr-tiny-x2", "--data", "nowhere", "--data", "photos"], "There is no file or folder nowhere"),
        (["sr-tiny-x2", "--data", "empty"], "holds no images"),
        (["sr-tiny-x2", "--data", "small"], "12×12 pixels"),
        (["sr-tiny-x2", "--data", "broken"], "broken/a.png"),
        (["cnn-cifar10", "--data", "photos"], "does not do image-super-resolution"),
        (["sr-tiny-x2", "--data", "photos", "--out", "file"], "is a file"),
    ],
)
def test_bad_input_ends_in_one_line(photos, monkeypatch, tmp_path, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "small", "broken"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (12, 12)).save(tmp_path / "small/a.png")
    (tmp_path / "broken/a.png").write_bytes(b"no image")
    (tmp_path / "file").write_text("")
    assert main(["evaluate", "superres", *words]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hfvision: error: ")]
    assert len(lines) == 1
    assert message in lines[0]
