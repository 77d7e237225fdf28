"""Pruning: what is cut is as if it were zero, targets hold, and the pruned model is one like any other."""

import copy
import json

import numpy as np
import pytest
import torch
from PIL import Image
from test_fold import MODELS, answer, cnn, trained, upscaler, vit
from torch.nn.functional import cross_entropy
from transformers import AutoModelForImageClassification

from hfvision import (
    CNNConfig,
    CNNForImageClassification,
    CNNForSemanticSegmentation,
    CNNSegmentationConfig,
    ImageClassificationProcessor,
    SRGANImageProcessor,
    VisionTransformerForSemanticSegmentation,
    VisionTransformerSegmentationConfig,
)
from hfvision.cli.main import main
from hfvision.compression.groups import find_groups
from hfvision.compression.prune import cut, magnitude_importance, prune, taylor_importance
from hfvision.compression.recipe import parse_prune_options


def segmenter(**fields):
    torch.manual_seed(0)
    sizes = {"image_size": 16, "stage_widths": [[[6, 8]], [[12]]], "stage_strides": [1, 2], "num_labels": 3}
    return trained(CNNForSemanticSegmentation(CNNSegmentationConfig(**sizes | fields)))


def vit_segmenter():
    torch.manual_seed(0)
    sizes = {"image_size": 16, "patch_size": 4, "hidden_size": 24, "num_hidden_layers": 2, "intermediate_size": 32}
    config = VisionTransformerSegmentationConfig(**sizes, num_attention_heads=4, num_labels=3)
    return trained(VisionTransformerForSemanticSegmentation(config))


PRUNABLE = MODELS | {
    "segmenter": segmenter,
    "segmenter with the image as a skip": lambda: segmenter(stage_strides=[2, 2]),
    "residual segmenter": lambda: segmenter(
        stem_width=6, stage_widths=[[[6, 6]] * 2, [[8, 8]] * 2], block_type="basic", decoder_widths=[[10, 6]]
    ),
    "segmenter over a ViT": vit_segmenter,
    "heads of a ViT": lambda: vit(num_attention_heads=4, distillation_token=True),
    "flattened map": lambda: cnn(stage_widths=[[[8]], [[12]]], pool_size=2, classifier_hidden_size=16, norm="none"),
    "no stem": lambda: cnn(stage_widths=[[[3, 3], [6, 3]], [[8, 8], [8, 8]]], block_type="basic"),
    "upscaler in steps": lambda: upscaler(upsampler="stepwise", scale=4),
    "plain upscaler": lambda: upscaler(scale=3, trunk_residual=False, block_residual=False),
}


def made(make):
    model = make()
    return model.fuse() if hasattr(model, "fuse") else model


@pytest.mark.parametrize("make", PRUNABLE.values(), ids=PRUNABLE)
def test_outputs_equal_those_of_the_masked_model_and_the_cut_one_reloads(make, tmp_path):
    model = made(make)
    generator = torch.Generator().manual_seed(1)
    groups = find_groups(model)
    kept = {
        group.name: torch.randperm(group.size, generator=generator)[: group.size // 2 + 1].sort().values
        for group in groups
    }
    masked = copy.deepcopy(model)
    for group in groups:
        mask = torch.zeros(group.size).index_fill(0, kept[group.name], 1)
        for name, columns, offset in group.consumers:
            weight = masked.get_submodule(name).weight.data
            columns_of_units = weight[:, offset : offset + group.size * columns]
            columns_of_units *= mask.repeat_interleave(columns).view(1, -1, *[1] * (weight.ndim - 2))
    pixel_values = torch.rand(2, 3, 16, 16, generator=generator)
    smaller = cut(model, kept)
    expected = answer(masked, pixel_values)
    assert not torch.allclose(expected, answer(model, pixel_values), atol=1e-4)
    torch.testing.assert_close(answer(smaller, pixel_values), expected, atol=1e-6, rtol=1e-5)
    assert smaller.num_parameters() < model.num_parameters()
    smaller.save_pretrained(tmp_path)
    reloaded = type(model).from_pretrained(tmp_path)
    assert torch.equal(answer(reloaded, pixel_values), answer(smaller, pixel_values))


def test_units_that_do_nothing_are_the_first_to_go():
    model = cnn(stage_widths=[[[8]], [[12, 9]]], norm="none")
    dead = [1, 4, 7]
    model.cnn.encoder.stages[1].blocks[0].layers[1].convolution.weight.data[:, dead] = 0
    batches = [{"x": torch.rand(8, 3, 16, 16), "y": torch.arange(8) % 5} for _ in range(2)]
    importance = taylor_importance(
        model, batches, lambda net, batch: cross_entropy(net(batch["x"]).logits, batch["y"])
    )
    scores = importance["cnn.encoder.stages.1.blocks.0.layers.0"]
    assert scores[dead].eq(0).all()
    assert scores.gt(0).sum() == 9
    by_weight = magnitude_importance(model)["cnn.encoder.stages.1.blocks.0.layers.0"]
    assert set(by_weight.argsort()[:3].tolist()) == set(dead)


def test_gates_say_by_how_much_the_loss_changes():
    """The Taylor expansion is exact in the limit: against a finite difference of a factor on the unit."""
    model = vit(num_attention_heads=4).double()
    pixel_values, labels = torch.rand(4, 3, 16, 16).double(), torch.tensor([0, 1, 1, 0])

    def loss(net, batch=None):
        return cross_entropy(net(pixel_values).logits, labels)

    importance = taylor_importance(model, [{}], loss)["vit.layers.0.attention"]
    for head in range(4):
        changed = copy.deepcopy(model)
        changed.vit.layers[0].attention.o_proj.weight.data[:, head * 6 : head * 6 + 6] *= 1 + 1e-6
        with torch.no_grad():
            slope = (loss(changed) - loss(model)) / 1e-6
        assert importance[head].item() == pytest.approx(slope.item() ** 2, rel=1e-2)


@pytest.mark.parametrize(
    ("make", "metric", "target"),
    [
        (lambda: cnn(stage_widths=[[[32, 32]], [[48, 48]]]), "params", 0.3),
        (lambda: cnn(stem_width=32, stage_widths=[[[32, 32]] * 2, [[48, 48]]], block_type="basic"), "macs", 0.5),
        (lambda: vit(num_attention_heads=4, intermediate_size=96), "macs", 0.6),
        (lambda: upscaler(hidden_size=32, block_widths=[[32], [32]]), "params", 8000),
    ],
)
def test_targets_hold_and_little_is_wasted(make, metric, target):
    model = make()
    pruned = prune(model, magnitude_importance(model), target, metric)
    limit = target * pruned.before[metric] if target < 1 else target
    assert 0.6 * limit < pruned.after[metric] <= limit
    assert pruned.after["params"] == pruned.model.num_parameters()
    assert pruned.before["params"] == model.num_parameters()


def test_latency_is_measured():
    model = cnn(stage_widths=[[[64, 64]], [[64, 64]]], image_size=64)
    pruned = prune(model, magnitude_importance(model), 0.6, "latency")
    assert pruned.after["macs"] < pruned.before["macs"]
    assert 0 < pruned.after["latency"] < pruned.before["latency"]


@pytest.mark.parametrize(
    ("target", "message"), [(0.001, "cannot be reached: .* are left"), (10**9, "below the params")]
)
def test_targets_out_of_reach_are_refused(target, message):
    model = cnn(stage_widths=[[[32]], [[48]]])
    with pytest.raises(ValueError, match=message):
        prune(model, magnitude_importance(model), target)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cnn(stage_widths=[[[8]], [[8]]], norm="group"), "Group normalization"),
        (lambda: CNNForImageClassification(CNNConfig(backbone="timm/test_convnext")), "no channels that can be cut"),
        (lambda: upscaler(branch_expansion=2), "model.fuse"),
        (lambda: torch.nn.Linear(2, 2), "Linear cannot be pruned"),
    ],
)
def test_what_cannot_be_pruned_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        find_groups(make())


@pytest.fixture
def images(tmp_path):
    generator = np.random.default_rng(0)
    for split, count in (("train", 24), ("validation", 8)):
        for label, low in (("dark", 0), ("bright", 155)):
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(generator.integers(low, low + 100, (16, 16, 3), dtype=np.uint8)).save(
                    folder / f"{number}.png"
                )
    return tmp_path / "images"


def save_parent(folder):
    torch.manual_seed(0)
    names = {"id2label": {0: "bright", 1: "dark"}, "label2id": {"bright": 0, "dark": 1}}
    config = CNNConfig(image_size=16, stage_widths=[[[32]], [[32]]], stage_strides=[1, 2], **names)
    CNNForImageClassification(config).save_pretrained(folder)
    ImageClassificationProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_command_prunes_trains_and_records_each_step(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    parent, out = tmp_path / "parent", tmp_path / "small"
    before = save_parent(parent)
    training = ["--epochs", "3", "--batch-size", "16", "--augment", "none", "--mixed-precision", "no"]
    command = [
        "prune",
        str(parent),
        "--data",
        str(images),
        "--target-params",
        "0.4",
        "--rounds",
        "2",
        "--out",
        str(out),
    ]
    assert main([*command, *training]) == 0
    assert {path.name: path.read_bytes() for path in parent.iterdir()} == before
    model = AutoModelForImageClassification.from_pretrained(out)
    record = json.loads((out / "record.json").read_text())
    steps = record["compression"]
    assert record["training"]["command"].startswith(f"hfvision prune {parent} --output-dir {out} ")
    assert "--target-params 0.4" in record["training"]["command"]
    assert [step["step"] for step in steps] == ["prune", "distill", "prune", "distill"]
    assert steps[0]["parameters"]["before"] > steps[0]["parameters"]["after"] == steps[2]["parameters"]["before"]
    assert steps[2]["parameters"]["after"] == model.num_parameters() <= 0.4 * steps[0]["parameters"]["before"]
    assert steps[3]["validation"]["after"] >= 0.9
    assert "prune (taylor)" in capsys.readouterr().out
    assert "Step 4: distill" in (out / "README.md").read_text()

    further = tmp_path / "further"
    options = ["--data", str(images), "--epochs", "1", "--mixed-precision", "no", "--out", str(further)]
    assert main(["distill", str(parent), str(out), *options]) == 0
    record = json.loads((further / "record.json").read_text())
    assert record["parent"] == parent.name
    assert record["compression"][:-1] == steps
    assert record["compression"][-1]["settings"] == {"teacher": parent.name, "epochs": 1}
    assert main(["card", str(further), "--force"]) == 0
    card = (further / "README.md").read_text()
    assert "Step 5: distill" in card
    assert "What it was made from" not in card

    (out / "record.json").write_text("{")
    assert main(["distill", str(parent), str(out), *options[:-1], str(tmp_path / "never")]) == 2
    assert "record.json is not valid JSON" in capsys.readouterr().err
    assert not (tmp_path / "never" / "config.json").exists()


def test_validation_images_are_chosen_as_the_parents_training_chose_them(tmp_path):
    save_parent(tmp_path)
    given = ["--data", "photos", "--target-params", "0.5"]
    assert parse_prune_options(str(tmp_path), given).validation == 0.1
    trained = {"validation": 0.02, "validation_group": "patient", "seed": 7, "epochs": 99}
    (tmp_path / "record.json").write_text(json.dumps({"training": {"config": trained}}))
    config = parse_prune_options(str(tmp_path), given)
    assert (config.validation, config.validation_group, config.seed) == (0.02, "patient", 7)
    assert config.epochs != 99
    assert parse_prune_options(str(tmp_path), [*given, "--validation", "0.3"]).validation == 0.3


def test_a_target_out_of_reach_leaves_nothing_behind(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    save_parent(tmp_path / "parent")
    out = tmp_path / "small"
    command = ["prune", str(tmp_path / "parent"), "--data", str(images), "--out", str(out)]
    assert main([*command, "--target-macs", "0.0001"]) == 2
    assert "cannot be reached" in capsys.readouterr().err
    assert main(command) == 2
    assert "target_params" in capsys.readouterr().err
    assert not (out / "config.json").exists()


def test_command_prunes_an_upscaler(tmp_path):
    model = upscaler(hidden_size=16, block_widths=[[16], [16]], branch_expansion=2)
    parent, photos, out = tmp_path / "parent", tmp_path / "photos", tmp_path / "fast"
    model.save_pretrained(parent)
    SRGANImageProcessor().save_pretrained(parent)
    photos.mkdir()
    generator = np.random.default_rng(0)
    for number in range(3):
        smooth = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((80, 64), 3)
        smooth.save(photos / f"{number}.png")
    command = ["prune", str(parent), "--data", str(photos), "--target-macs", "0.6", "--out", str(out)]
    options = ["--validation", "0.4", "--epochs", "1", "--steps-per-epoch", "3", "--batch-size", "2", "--crop", "16"]
    options += ["--degradation", "mild", "--importance-images", "8", "--mixed-precision", "no"]
    assert main([*command, *options]) == 0
    record = json.loads((out / "record.json").read_text())
    assert record["compression"][0]["macs"]["after"] <= 0.6 * record["compression"][0]["macs"]["before"]
    assert "validation_psnr_mild" in record["training"]["history"][0]
    reloaded = type(model).from_pretrained(out)
    assert reloaded.config.fused
    assert reloaded.num_parameters() == record["compression"][0]["parameters"]["after"]
