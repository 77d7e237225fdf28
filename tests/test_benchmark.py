"""The benchmark: every engine gives the parent's answers, ratios are those of the times, mistakes are said."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from test_fold import cnn, upscaler
from test_quantize import NAMES

from hfvision import ImageClassificationProcessor, SRGANImageProcessor
from hfvision.cli.main import main
from hfvision.compression.benchmark import benchmark, format_benchmark
from hfvision.compression.quantize import quantize

PLAIN = ["eager", "bf16", "openvino", "onnx"]  # compiling takes long


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    cnn(stage_widths=[[[16]], [[32]]], **NAMES).save_pretrained(folder / "large")
    cnn(stage_widths=[[[8]], [[8]]], **NAMES).save_pretrained(folder / "small")
    for name in ("large", "small"):
        ImageClassificationProcessor(size={"height": 16, "width": 16}).save_pretrained(folder / name)
    upscaler(hidden_size=8).save_pretrained(folder / "upscaler")
    SRGANImageProcessor().save_pretrained(folder / "upscaler")
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("dark", "bright"):
            (folder / "images" / split / label).mkdir(parents=True)
            for number in range(21):
                pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "images" / split / label / f"{number}.png")
    (folder / "photos").mkdir()
    small = Image.fromarray(generator.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    small.resize((97, 80), Image.Resampling.BICUBIC).save(folder / "photos" / "one.png")
    return folder


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def test_engines_agree_and_ratios_are_those_of_the_times(folder, tmp_path):
    pytest.importorskip("nncf")
    int8 = tmp_path / "int8"
    quantize(str(folder / "large"), int8, calibration=str(folder / "images"), images=20)
    models = [str(folder / "large"), str(folder / "small"), str(int8)]
    record = benchmark(
        models, data=str(folder / "images"), engines=PLAIN, batches=[1, 4], rounds=3, count=40, threads=1
    )
    results = record["results"]
    assert record["parent"] == f"{models[0]} · eager" == next(iter(results))
    assert f"{int8} · int8" in results
    first = results[record["parent"]]
    for name, entry in results.items():
        for size, figures in entry["batches"].items():
            assert figures["cpu_ms"]["median"] <= figures["cpu_ms"]["p90"]
            expected = first["batches"][size]["cpu_ms"]["median"] / figures["cpu_ms"]["median"]
            assert figures["speedup"] == pytest.approx(expected, abs=1e-2, rel=1e-2)
            assert figures["images_per_second"] == pytest.approx(
                1000 * int(size) / figures["latency_ms"]["median"], rel=0.01, abs=0.1
            )
        assert entry["images"] == 40
        if entry["model"] == models[0] and entry["engine"] in ("eager", "openvino", "onnx"):
            assert entry["agreement"] == 1
            assert entry["top1"] == first["top1"]
        assert name in format_benchmark(record)
    assert results[f"{models[1]} · eager"]["macs"] < first["macs"]
    assert results[f"{models[1]} · eager"]["bytes"] < first["bytes"]
    assert results[f"{models[0]} · bf16"]["bytes"] < 0.6 * first["bytes"]


def test_command_measures_an_upscaler_and_draws(folder, tmp_path, capsys):
    before, out = torch.get_num_threads(), tmp_path / "report"
    command = ["benchmark", str(folder / "upscaler"), "--data", str(folder / "photos"), "--engines", "eager"]
    command += ["--engines", "bf16"]
    assert main([*command, "--batch", "1", "--batch", "2", "--rounds", "2", "--out", str(out)]) == 0
    assert "PSNR" in capsys.readouterr().out
    record = json.loads((out / "benchmark.json").read_text())
    eager, half = record["results"].values()
    assert list(eager["batches"]) == ["1", "2"], "lists given in parts add up"
    assert eager["agreement"] == 100
    assert 30 < half["agreement"] < 100
    assert half["psnr"] == pytest.approx(eager["psnr"], abs=0.5)
    assert Image.open(out / "benchmark.png").width > 400
    assert torch.get_num_threads() == before
    assert main([*command, "--out", str(out)]) == 2
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        (["large", "upscaler"], [], "different images or tasks"),
        (["large"], ["--engines", "abacus"], "no engine 'abacus'"),
        (["large"], ["--data", "{images}", "--split", "validation", "--engines", "eager"], None),
        (["nothing"], [], "no model"),
    ],
)
def test_mistakes_are_said(folder, capsys, models, options, message):
    words = [str(folder / name) for name in models]
    options = [option.format(images=folder / "images") for option in options]
    code = main(["benchmark", *words, *options, "--rounds", "1", "--batch", "1"])
    assert code == (0 if message is None else 2)
    if message:
        assert message in capsys.readouterr().err


def test_json_has_no_numbers_that_json_lacks(folder, tmp_path, capsys):
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "flat" / "one.png")
    black = upscaler(hidden_size=8)
    for parameter in black.parameters():
        torch.nn.init.zeros_(parameter)
    black.save_pretrained(tmp_path / "black")
    SRGANImageProcessor().save_pretrained(tmp_path / "black")
    out = tmp_path / "out"
    words = ["benchmark", str(tmp_path / "black"), "--data", str(tmp_path / "flat"), "--engines", "eager"]
    assert main([*words, "--batch", "1", "--rounds", "2", "--out", str(out), "--json"]) == 0
    for text in (capsys.readouterr().out, (out / "benchmark.json").read_text()):
        (entry,) = json.loads(text, parse_constant=lambda name: pytest.fail(name))["results"].values()
        assert entry["psnr"] is None, "restored exactly"
