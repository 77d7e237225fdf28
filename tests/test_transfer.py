"""Where trainings start: models by name, frozen parts, adapters, numbered layers."""

import copy
import warnings

import pytest
import timm.optim
import torch
import transformers
from huggingface_hub import HfApi
from peft import PeftModel
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForImageClassification

from hfvision import (
    CNNConfig,
    CNNForImageClassification,
    ImageClassificationProcessor,
    VisionTransformerConfig,
    VisionTransformerForImageClassification,
)
from hfvision.data.transforms.normalize import Normalize
from hfvision.tasks.classification.start import load_start
from hfvision.tasks.classification.transfer import add_lora, freeze, keep_frozen_statistics, number_layers

NAMES = ["cat", "dog", "owl"]
LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {name: number for number, name in enumerate(NAMES)}}


def cnn(**fields) -> CNNForImageClassification:
    torch.manual_seed(0)
    sizes = {"stem_width": 8, "stage_widths": [[[8, 8]], [[16, 16]]], "stage_strides": [1, 2], "block_type": "basic"}
    return CNNForImageClassification(CNNConfig(**sizes | LABELS | fields))


def vit(**fields) -> VisionTransformerForImageClassification:
    torch.manual_seed(0)
    sizes = {
        "patch_size": 4,
        "stem_widths": [8, 8],
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
    }
    return VisionTransformerForImageClassification(
        VisionTransformerConfig.from_preset("cifar", **sizes | LABELS | fields)
    )


def over_timm(name: str) -> CNNForImageClassification:
    torch.manual_seed(0)
    return CNNForImageClassification(CNNConfig(backbone=f"timm/{name}", image_size=32, **LABELS))


MODELS = {
    "cnn": cnn,
    "cnn with a hidden layer": lambda: cnn(classifier_hidden_size=12),
    "vit": vit,
    "vit with a distillation token": lambda: vit(distillation_token=True),
    "timm resnet": lambda: over_timm("test_resnet"),
    "timm convnext with depthwise convolutions": lambda: over_timm("test_convnext"),
}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]()


def statistics(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def take_steps(model: nn.Module, steps: int = 3) -> None:
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    for _ in range(steps):
        model.train()
        images = torch.randn(6, 3, 32, 32, generator=generator)
        model(pixel_values=images, labels=torch.arange(6) % 3).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(pixel_values=torch.linspace(-2, 2, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)).logits


# Models by name


@pytest.mark.parametrize(
    ("name", "side"), [("cnn:tiny", 32), ("vit:cifar", 32), ("cnn:textbook", 28), ("timm/test_resnet:random", 160)]
)
def test_a_preset_or_timm_architecture_starts_with_the_classes_and_its_size(name, side):
    model, processor = load_start(name, names=NAMES)
    assert model.config.id2label == LABELS["id2label"]
    assert model.config.label2id == LABELS["label2id"]
    assert (processor.size["height"], processor.size["width"]) == (side, side)
    assert processor.image_mean == (0.485, 0.456, 0.406)
    with torch.no_grad():
        assert model(torch.zeros(1, 3, side, side)).logits.shape == (1, 3)


def test_size_and_channels_are_chosen():
    model, processor = load_start("cnn:tiny", names=NAMES, num_channels=1, image_size=24)
    assert (model.config.num_channels, model.config.image_size) == (1, 24)
    assert processor.size["height"] == 24
    assert Normalize.from_processor(processor) == Normalize((0.5,), (0.5,))


def test_timm_weights_come_from_the_hub_by_tag(hub, tmp_path):
    state = timm.create_model("test_resnet").state_dict()
    state = {name: torch.full_like(t, 0.25) if t.is_floating_point() else t for name, t in state.items()}
    save_file(state, tmp_path / "model.safetensors")
    HfApi().create_repo("timm/test_resnet.r160_in1k")
    HfApi().upload_folder(repo_id="timm/test_resnet.r160_in1k", folder_path=tmp_path)
    for name in ("timm/test_resnet.r160_in1k", "timm/test_resnet"):  # without a tag, the default one
        model, processor = load_start(name, names=NAMES)
        assert model.config.backbone == "timm/test_resnet.r160_in1k"
        weights = list(model.cnn.encoder.parameters())
        assert weights
        assert all((parameter == 0.25).all() for parameter in weights)
        assert processor.size["height"] == 160
        assert processor.image_mean == (0.5, 0.5, 0.5)
    random, _ = load_start("timm/test_resnet:random", names=NAMES)
    assert not all((parameter == 0.25).all() for parameter in random.cnn.encoder.parameters())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cnn:huge", {}, "No CNN preset is called 'huge'"),
        ("mlp:tiny", {}, "no family 'mlp'"),
        ("vit:cifar", {"image_size": 30}, r"^The model vit:cifar cannot be made: image_size=30 must be a multiple"),
        ("timm/no_such", {}, "has no model called 'no_such'"),
        ("timm/test_resnet:randm", {}, "ends in 'randm': give timm/test_resnet, or timm/test_resnet:random"),
        ("timm/test_vit", {}, r"cannot be fetched: .* timm/test_vit:random starts with random weights"),
        ("timm/resnet18.no_such", {}, r"Invalid pretrained tag \(no_such\)"),
        ("sr-tiny-x2", {}, "does not do image-classification"),
        ("no/where", {}, "cannot be loaded"),
    ],
)
def test_starts_that_cannot_be_are_refused(hub, name, options, message):
    with pytest.raises(ValueError, match=message):
        load_start(name, names=NAMES, **options)


def test_a_missing_folder_is_said():
    with pytest.raises(FileNotFoundError, match=r"no model '\./nowhere'"):
        load_start("./nowhere", names=NAMES)


@pytest.fixture
def saved(tmp_path):
    model = cnn()
    with torch.no_grad():
        model.classifier.weight.normal_()
    model.save_pretrained(tmp_path)
    ImageClassificationProcessor(size={"height": 32, "width": 32}, image_mean=[0.1] * 3).save_pretrained(tmp_path)
    return model, str(tmp_path)


def test_a_trained_model_of_the_same_classes_keeps_its_head(saved):
    model, folder = saved
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        started, processor = load_start(folder, names=NAMES, image_size=48)
    assert all(torch.equal(t, started.state_dict()[name]) for name, t in model.state_dict().items())
    assert (processor.size["height"], processor.image_mean) == (48, (0.1, 0.1, 0.1))


@pytest.mark.parametrize("names", [["a", "b"], ["a", "b", "c", "d", "e"], ["owl", "dog", "cat"], ["x", "y", "z"]])
def test_a_trained_model_of_other_classes_gets_a_fresh_head(saved, names):
    model, folder = saved
    with pytest.warns(UserWarning, match=f"a fresh head for {len(names)} classes"):
        started, _ = load_start(folder, names=names)
    assert started.config.id2label == dict(enumerate(names))
    assert started.classifier.weight.shape == (len(names), 16)
    assert not torch.isin(model.classifier.weight, started.classifier.weight).any()
    for name, tensor in model.cnn.state_dict().items():
        assert torch.equal(tensor, started.cnn.state_dict()[name]), name


def test_a_classifier_of_transformers_is_taken(tmp_path):
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=5)
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"fresh head|without an image processor") as caught:
        model, processor = load_start(str(tmp_path), names=NAMES)
    assert len(caught) == 2
    assert isinstance(processor, ImageClassificationProcessor)
    freeze(model, "backbone")
    assert [n for n, p in model.named_parameters() if p.requires_grad] == ["classifier.1.weight", "classifier.1.bias"]
    assert logits(model.eval()).shape == (2, 3)


def test_weights_missing_in_the_backbone_are_refused(saved):
    model, folder = saved
    state = {name: t for name, t in model.state_dict().items() if "stages.1" not in name}
    save_file(state, f"{folder}/model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks weights or has some of another shape: cnn\.encoder\.stages\.1"):
        load_start(folder, names=NAMES)


def test_channels_of_a_trained_model_are_fixed(saved):
    with pytest.raises(ValueError, match="takes images of 3 channels, not 1"):
        load_start(saved[1], names=NAMES, num_channels=1)


# Frozen parts


def test_under_a_frozen_backbone_the_head_alone_changes(model):
    before = copy.deepcopy(model.state_dict())
    freeze(model, "backbone")
    take_steps(model)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    heads = ("classifier", "distillation_classifier", "hidden")
    assert changed == {name for name in before if name.startswith(heads)}


def test_what_is_set_free_trains_with_its_statistics():
    model = cnn()
    freeze(model, "backbone")
    freeze(model, "none")
    before = statistics(model)
    take_steps(model)
    assert all(not torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_batch_normalisation_that_trains_is_left_alone():
    model = keep_frozen_statistics(cnn()).train()
    assert all(module.training for module in model.modules())


def test_freezing_something_else_is_refused():
    with pytest.raises(ValueError, match="'none' or 'backbone', got 'stem'"):
        freeze(cnn(), "stem")


# Adapters


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_adapters_train_save_reload_and_merge(model, dora, tmp_path):
    base = copy.deepcopy(model)
    before = statistics(model)
    backbone = {name: p.detach().clone() for name, p in model.base_model.named_parameters()}
    adapted = add_lora(model, 2, dora=dora)
    start = logits(adapted.eval())
    torch.testing.assert_close(start, logits(base.eval()), atol=1e-5, rtol=1e-5)
    take_steps(adapted.to(memory_format=torch.channels_last))
    trained = logits(adapted.to(memory_format=torch.contiguous_format))
    assert (trained - start).abs().max() > 1e-3
    after = statistics(adapted)
    assert all(torch.equal(after[f"base_model.model.{name}"], buffer) for name, buffer in before.items())
    kept = [
        torch.equal(p, backbone[n.replace(".base_layer", "")])
        for n, p in model.base_model.named_parameters()
        if "lora" not in n
    ]
    assert len(kept) == len(backbone)
    assert all(kept)

    adapted.save_pretrained(tmp_path / "adapter")
    files = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert files == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    reloaded = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    torch.testing.assert_close(logits(reloaded), trained, atol=1e-6, rtol=1e-5)

    merged = adapted.merge_and_unload()
    torch.testing.assert_close(logits(merged), trained, atol=1e-5, rtol=1e-5)
    merged.save_pretrained(tmp_path / "merged")
    again = AutoModelForImageClassification.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(again), trained, atol=1e-5, rtol=1e-5)


def test_adapters_are_few_and_the_head_trains():
    model = vit()
    adapted = add_lora(model, 2, alpha=4)
    trainable = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert all("lora_" in name or "classifier.modules_to_save" in name for name in trainable)
    for projection in ("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"):
        assert any(f"{projection}.lora_A" in name for name in trainable)
    assert any("classifier.modules_to_save" in name for name in trainable)
    assert adapted.peft_config["default"].lora_alpha == 4


@pytest.mark.parametrize("rank", [0, -1])
def test_a_rank_below_one_is_refused(rank):
    with pytest.raises(ValueError, match="at least 1"):
        add_lora(cnn(), rank)


# Layers


def test_learning_rates_fall_from_the_head_to_the_stem(model):
    number_layers(model)
    optimizer = timm.optim.create_optimizer_v2(model, "adamw", lr=1.0, weight_decay=0.1, layer_decay=0.5)
    scales = {id(p): group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    assert len(scales) == len(list(model.parameters()))
    by_name = {name: scales[id(p)] for name, p in model.named_parameters()}
    assert all(scale == 1 for name, scale in by_name.items() if "classifier" in name)
    first = next(iter(by_name))
    blocks = len(set(by_name.values()))
    assert by_name[first] == min(by_name.values()) == 0.5 ** (blocks - 1)
    assert blocks >= 4


def test_a_model_of_unknown_layers_has_no_layer_decay():
    with pytest.raises(ValueError, match="does not know the layers of a Sequential"):
        number_layers(nn.Sequential(nn.Linear(2, 2)))


def test_timm_transformers_start_at_any_size():
    model, processor = load_start("timm/test_vit:random", names=NAMES, image_size=32)
    assert processor.size["height"] == 32
    assert model(torch.rand(1, 3, 32, 32)).logits.shape == (1, len(NAMES))


def test_dora_leaves_out_layers_with_outputs_of_no_weight():
    model = CNNForImageClassification(CNNConfig.from_preset("tiny", stage_widths=[[[4]], [[6]], [[8]]]))
    _, second, _ = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    nn.init.zeros_(second.weight[:1])
    with pytest.warns(UserWarning, match="No DoRA for layers with outputs whose weights are all 0: .*stages.1"):
        adapted = add_lora(model, 2, dora=True)
    assert adapted(torch.rand(2, 3, 32, 32)).logits.isfinite().all()
