"""Models of every family in the hands of transformers' Trainer, PEFT, torch.export, ONNX Runtime and quanto."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.export import Dim
from transformers import QuantoConfig, Trainer, TrainingArguments

from hfvision import (
    CNNConfig,
    CNNForImageClassification,
    CNNForSemanticSegmentation,
    CNNSegmentationConfig,
    SRGANConfig,
    SRGANForImageSuperResolution,
    VisionTransformerConfig,
    VisionTransformerForImageClassification,
    VisionTransformerForSemanticSegmentation,
    VisionTransformerSegmentationConfig,
)

CNN = {"stem_width": 6, "stage_widths": [[[6, 6]], [[8, 8]]], "stage_strides": [1, 2], "block_type": "basic"}
VIT = {
    "image_size": 16,
    "patch_size": 4,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
FAMILIES = {
    "cnn": lambda: CNNForImageClassification(CNNConfig(**CNN, num_labels=3)),
    "vit": lambda: VisionTransformerForImageClassification(VisionTransformerConfig(**VIT, num_labels=3)),
    "timm": lambda: CNNForImageClassification(CNNConfig(backbone="timm/test_resnet", num_labels=3)),
    "srgan": lambda: SRGANForImageSuperResolution(
        SRGANConfig(scale=2, hidden_size=6, block_widths=[[6]], norm=True, skip="bicubic")
    ),
    "cnn-segmenter": lambda: CNNForSemanticSegmentation(CNNSegmentationConfig(**CNN, num_labels=3)),
    "vit-segmenter": lambda: VisionTransformerForSemanticSegmentation(
        VisionTransformerSegmentationConfig(**VIT, num_labels=3)
    ),
}
SIZE = 24


def make_model(family: str) -> nn.Module:
    """Small, in evaluation mode, and no weight 0 as in a fresh model."""
    torch.manual_seed(0)
    model = FAMILIES[family]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def examples(family: str, count: int = 4) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    labels = {
        "srgan": lambda: torch.rand(3, 2 * SIZE, 2 * SIZE, generator=generator),
        "cnn-segmenter": lambda: torch.randint(3, (SIZE, SIZE), generator=generator),
        "vit-segmenter": lambda: torch.randint(3, (SIZE, SIZE), generator=generator),
    }.get(family, lambda: torch.randint(3, (), generator=generator))
    return [{"pixel_values": torch.rand(3, SIZE, SIZE, generator=generator), "labels": labels()} for _ in range(count)]


def images(batch: int = 2, height: int = SIZE, width: int = SIZE) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def output(model: nn.Module, pixel_values: torch.Tensor | None = None) -> torch.Tensor:
    outputs = model(pixel_values=images() if pixel_values is None else pixel_values)
    return outputs["reconstruction" if "reconstruction" in outputs else "logits"]


@pytest.mark.parametrize("family", FAMILIES)
def test_trainer_trains_evaluates_and_resumes(family, tmp_path):
    arguments = {
        "output_dir": str(tmp_path),
        "per_device_train_batch_size": 2,
        "save_steps": 2,
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "gradient_checkpointing": family != "timm",
    }
    data, model = examples(family), make_model(family)
    before = [parameter.clone() for parameter in model.parameters()]
    trainer = Trainer(model, TrainingArguments(max_steps=2, **arguments), train_dataset=data, eval_dataset=data)
    trainer.train()
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert trainer.evaluate()["eval_loss"] > 0
    resumed = Trainer(make_model(family), TrainingArguments(max_steps=3, **arguments), train_dataset=data)
    assert resumed.train(resume_from_checkpoint=True).global_step == 3


@pytest.mark.parametrize(
    ("family", "dora"),
    [(family, dora) for family in FAMILIES for dora in (False, True) if not (dora and family == "timm")],
)
def test_adapters_train_reload_and_merge(family, dora, tmp_path):
    base = make_model(family)
    targets = [name for name, module in base.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=targets, use_dora=dora)).train()
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.1)
    batch = {key: torch.stack([example[key] for example in examples(family)]) for key in ("pixel_values", "labels")}
    for _ in range(2):
        optimizer.zero_grad()
        adapted(**batch).loss.backward()
        optimizer.step()
    trained = output(adapted.eval())
    assert trained.isfinite().all()
    assert not torch.allclose(trained, output(make_model(family)))
    adapted.save_pretrained(tmp_path)
    reloaded = PeftModel.from_pretrained(make_model(family), tmp_path).eval()
    torch.testing.assert_close(output(reloaded), trained)
    torch.testing.assert_close(output(reloaded.merge_and_unload()), trained, atol=1e-4, rtol=1e-3)


def exported(family: str) -> torch.export.ExportedProgram:
    """With a batch of any number of images, of any size that is a multiple of 4."""
    sizes = {0: Dim("batch", min=1, max=64), 2: 4 * Dim("rows", min=2, max=64), 3: 4 * Dim("columns", min=2, max=64)}
    return torch.export.export(
        make_model(family), (), {"pixel_values": images(3, 40, 44)}, dynamic_shapes={"pixel_values": sizes}
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_export_takes_another_batch_and_size(family):
    module = exported(family).module()
    for pixel_values in (images(1, 36, 64), images(5, 48, 40)):
        outputs = module(pixel_values=pixel_values)
        got = outputs["reconstruction" if family == "srgan" else "logits"]
        torch.testing.assert_close(got, output(make_model(family), pixel_values), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_onnx_runtime_computes_the_same(family, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.onnx.export(exported(family), f=str(tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    pixel_values = images(2, 36, 64)
    [name] = [value.name for value in session.get_inputs()]
    got = torch.from_numpy(session.run(None, {name: pixel_values.numpy()})[0])
    torch.testing.assert_close(got, output(make_model(family), pixel_values), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_device_map_and_eight_bits(family, tmp_path):
    model = make_model(family)
    model.save_pretrained(tmp_path)
    placed = type(model).from_pretrained(tmp_path, device_map="auto")
    torch.testing.assert_close(output(placed, images().to(placed.device)).cpu(), output(model), atol=1e-4, rtol=1e-3)
    pytest.importorskip("optimum.quanto")
    settings = QuantoConfig(weights="int8")
    small = type(model).from_pretrained(tmp_path, quantization_config=settings)
    if any(
        isinstance(module, nn.Linear) for module in model.modules()
    ):  # transformers leaves convolutions as they are
        assert any("quanto" in type(module).__module__ for module in small.modules())
    expected = output(model)
    assert (output(small) - expected).abs().max() < 0.05 * expected.abs().max()
