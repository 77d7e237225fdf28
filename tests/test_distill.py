"""Losses of distillation, and a student beside its teacher."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForImageClassification, AutoModelForImageToImage

from hfvision import (
    CNNConfig,
    CNNForImageClassification,
    ImageClassificationProcessor,
    SRGANConfig,
    SRGANForImageSuperResolution,
    SRGANImageProcessor,
    VisionTransformerConfig,
    VisionTransformerForImageClassification,
)
from hfvision.cli.main import main
from hfvision.data.transforms.normalize import Normalize
from hfvision.tasks.classification.transfer import add_lora
from hfvision.tasks.distill import (
    Distiller,
    feature_matching_loss,
    hard_distillation_loss,
    soft_target_loss,
)

NAMES = ["cat", "dog", "owl"]
IMAGES = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
NORMALIZE = Normalize((0.5,) * 3, (0.5,) * 3)


def named(names):
    return {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}


def cnn(names=NAMES, seed=0, **fields) -> CNNForImageClassification:
    torch.manual_seed(seed)
    sizes = {"image_size": 16, "stage_widths": [[[8]], [[12]]], "stage_strides": [1, 2]}
    return CNNForImageClassification(CNNConfig(**sizes | named(names) | fields))


def vit(**fields) -> VisionTransformerForImageClassification:
    torch.manual_seed(1)
    sizes = {"image_size": 16, "patch_size": 4, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2}
    return VisionTransformerForImageClassification(
        VisionTransformerConfig(**sizes | {"pooling": "mean"} | named(NAMES) | fields)
    )


def processor(side: int = 16, mean: float = 0.3, **more) -> ImageClassificationProcessor:
    return ImageClassificationProcessor(
        size={"height": side, "width": side}, image_mean=[mean] * 3, image_std=[0.2] * 3, **more
    )


def trained_teacher(names=NAMES, **fields) -> CNNForImageClassification:
    """Random, but sure of its answers and with running statistics of its own."""
    teacher = cnn(names, seed=7, **fields)
    with torch.no_grad():
        teacher.classifier.weight.mul_(8)
        teacher.train()(NORMALIZE(IMAGES)[:, : teacher.config.num_channels])
    return teacher


def distiller(**settings) -> Distiller:
    return Distiller(trained_teacher(), processor(), [0, 1, 2], **settings)


def loss_of(distiller: Distiller, net: nn.Module, images: torch.Tensor = IMAGES):
    return distiller(net, NORMALIZE(images), images, lambda logits: cross_entropy(logits, LABELS))


# Losses


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_targets_by_the_formula(temperature):
    student, teacher = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p, q = (torch.softmax(x / temperature, 1) for x in (teacher, student))
    expected = temperature**2 * (p * (p / q).log()).sum(1).mean()
    assert soft_target_loss(student, teacher, temperature).item() == pytest.approx(expected.item(), rel=1e-5)
    assert soft_target_loss(teacher, teacher + 3, temperature).item() == pytest.approx(0, abs=1e-6)


def test_a_high_temperature_keeps_the_gradient():
    """For T → ∞ the gradient goes to (z - v) / C, over centred logits (Hinton et al. 2015, equation 4)."""
    student, teacher = torch.randn(2, 1, 4, generator=torch.Generator().manual_seed(0))
    student = (student - student.mean()).requires_grad_()
    teacher = teacher - teacher.mean()
    soft_target_loss(student, teacher, 300.0).backward()
    torch.testing.assert_close(student.grad, (student.detach() - teacher) / 4, atol=2e-3, rtol=2e-2)


def test_hard_targets_are_the_teachers_decisions():
    student = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    teacher = torch.tensor([[0.0, 9, 1], [3, 2, 1], [0, 1, 2], [1, 5, 0]])
    assert hard_distillation_loss(student, teacher) == cross_entropy(student, torch.tensor([1, 0, 2, 1]))


def test_features_match_up_to_the_projection_and_at_any_scale():
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(2, 3, 4, 4, generator=generator)
    projection = nn.Linear(3, 5)
    with torch.no_grad():
        teacher = projection(student.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        assert feature_matching_loss([student], [teacher], [projection]).item() == pytest.approx(0, abs=1e-10)
        zero = nn.Linear(3, 5)
        zero.weight.zero_()
        zero.bias.zero_()
        for scale in (1, 1000):
            assert feature_matching_loss([student], [scale * teacher], [zero]).item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ((2, 3, 8, 8), (2, 3, 4, 4)),
        ((2, 3, 4, 4), (2, 3, 8, 6)),
        ((2, 17, 3), (2, 3, 4, 4)),
        ((2, 17, 3), (2, 17, 3)),
        ((2, 16, 3), (2, 5, 3)),
    ],
)
def test_features_of_other_sizes_and_kinds_are_matched(student, teacher):
    constant = feature_matching_loss([torch.full(student, 2.0)], [torch.full(teacher, 2.0)], [nn.Identity()])
    assert constant.item() == 0
    random = feature_matching_loss([torch.randn(student)], [torch.randn(teacher)], [nn.Identity()])
    assert random > 0.1


# Student and teacher


def test_the_teacher_sees_what_its_own_processor_gives():
    images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in IMAGES]
    for side in (16, 24):
        teacher, own = trained_teacher(), processor(side)
        asked = Distiller(teacher, own, [0, 1, 2]).teacher_outputs(IMAGES).logits
        with torch.no_grad():
            expected = teacher(**own(images, return_tensors="pt")).logits
        torch.testing.assert_close(asked, expected, atol=0.05 if side != 16 else 1e-4, rtol=0.02)
        torch.testing.assert_close(
            Distiller(teacher, own, [0, 1, 2]).teacher_outputs(IMAGES.float() / 255).logits,
            asked,
            atol=1e-5,
            rtol=1e-5,
        )


def test_grey_and_colour_meet():
    grey_teacher = trained_teacher(num_channels=1)
    grey = Distiller(grey_teacher, processor(num_channels=1, do_normalize=False), [0, 1, 2])
    assert grey.teacher_outputs(IMAGES).logits.shape == (6, 3)
    colour = distiller()
    torch.testing.assert_close(
        colour.teacher_outputs(IMAGES[:, :1]).logits,
        colour.teacher_outputs(IMAGES[:, :1].expand(-1, 3, -1, -1)).logits,
    )


def test_the_weight_divides_the_loss_between_labels_and_teacher():
    student = cnn().eval()
    by_labels, logits = loss_of(distiller(weight=0), student)
    by_teacher, _ = loss_of(distiller(weight=1, temperature=3.0), student)
    both, _ = loss_of(distiller(weight=0.25, temperature=3.0), student)
    assert by_labels.item() == pytest.approx(cross_entropy(logits, LABELS).item())
    expected = soft_target_loss(logits, distiller().teacher_outputs(IMAGES).logits, 3.0)
    assert by_teacher.item() == pytest.approx(expected.item(), rel=1e-5)
    assert both.item() == pytest.approx(0.75 * by_labels.item() + 0.25 * by_teacher.item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["soft", "hard"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_each_head_has_its_own_teacher(kind, pooling):
    """With a distillation token the teacher's answers are for its head, labels for the other."""
    for weight, learns, rests in (
        (0, "classifier", "distillation_classifier"),
        (1, "distillation_classifier", "classifier"),
    ):
        student = vit(distillation_token=True, pooling=pooling)
        loss, logits = loss_of(distiller(distillation=kind, weight=weight), student)
        loss.backward()
        assert student.get_submodule(learns).weight.grad.abs().max() > 0
        assert student.get_submodule(rests).weight.grad.abs().max() == 0
        assert logits.shape == (6, 3)


@pytest.mark.parametrize("kind", ["soft", "hard", "features"])
@pytest.mark.parametrize("build", [cnn, vit, lambda: vit(distillation_token=True)], ids=["cnn", "vit", "distilled"])
def test_a_student_learns_and_the_teacher_stays_as_it_is(kind, build):
    student, beside = build(), distiller(distillation=kind, weight=0.9)
    if kind == "features":
        beside.attach(student)
    before = copy.deepcopy(beside.teacher.state_dict())
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    losses = []
    for _ in range(25):
        loss, _ = loss_of(beside, student.train())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert all(torch.equal(tensor, before[name]) for name, tensor in beside.teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in beside.teacher.parameters())


def test_projections_train_and_are_checkpointed_but_not_saved(tmp_path):
    student, beside = cnn().train(), distiller(distillation="features")
    plain = set(student.state_dict())
    statistics = {name: buffer.clone() for name, buffer in student.named_buffers()}
    beside.attach(student)
    assert student.training
    assert all(torch.equal(buffer, statistics[name]) for name, buffer in student.named_buffers())
    projections = set(student.state_dict()) - plain
    assert projections
    loss_of(beside, student)[0].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in student.parameters())
    student.save_pretrained(tmp_path, state_dict=student.state_dict())
    assert set(load_file(tmp_path / "model.safetensors")) == plain
    beside.release(student)
    assert set(student.state_dict()) == plain


def test_features_teach_adapters_too(tmp_path):
    student, beside = add_lora(vit(), 2), distiller(distillation="features")
    beside.attach(student)
    loss_of(beside, student)[0].backward()
    assert all(p.grad is not None for p in student.parameters() if p.requires_grad)
    student.save_pretrained(tmp_path)
    assert not [name for name in load_file(tmp_path / "adapter_model.safetensors") if "projections" in name]


def test_a_teacher_can_compute_in_half_precision():
    full, half = distiller().teacher_outputs(IMAGES).logits, distiller(precision="bf16").teacher_outputs(IMAGES).logits
    assert 0 < (half.float() - full).abs().max() < 0.05 * full.abs().max()


def options(teacher, **more):
    defaults = {
        "teacher": str(teacher),
        "trust_remote_code": False,
        "distillation": "soft",
        "distillation_weight": 0.5,
        "distillation_temperature": 2.0,
        "mixed_precision": "no",
    }
    return SimpleNamespace(**defaults | more)


@pytest.fixture
def teacher_folder(tmp_path):
    trained_teacher(["owl", "cat", "dog"]).save_pretrained(tmp_path)
    processor().save_pretrained(tmp_path)
    return tmp_path


def test_classes_are_matched_by_name(teacher_folder):
    student = cnn().eval()
    beside = Distiller.from_config(options(teacher_folder), student, NAMES)
    answers = beside.teacher_outputs(IMAGES).logits
    loss, logits = loss_of(beside, student)
    expected = soft_target_loss(logits, answers[:, [1, 2, 0]], 2.0) / 2 + cross_entropy(logits, LABELS) / 2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_features_by_options(teacher_folder):
    student = cnn()
    Distiller.from_config(options(teacher_folder, distillation="features"), student, NAMES)
    assert "distillation_projections" in dict(student.named_children())


def test_a_teacher_of_other_classes_is_refused(teacher_folder):
    for names in (["cat", "dog"], ["cat", "dog", "fox"]):
        with pytest.raises(ValueError, match="cannot be the teacher"):
            Distiller.from_config(options(teacher_folder), cnn(names), names)


def test_a_missing_teacher_is_said():
    with pytest.raises(FileNotFoundError, match="no model"):
        Distiller.from_config(options("./nowhere"), cnn(), NAMES)


@pytest.mark.parametrize(
    ("settings", "message"), [({"weight": 1.5}, "from 0 to 1, got 1.5"), ({"temperature": 0}, "above 0, got 0")]
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        distiller(**settings)


def test_command_teaches_a_classifier_and_keeps_its_teacher(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    for label, low in (("cat", 0), ("dog", 80), ("owl", 160)):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(20):
            pixels = generator.integers(low, low + 96, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number}.png")
    teacher, out = tmp_path / "teacher", tmp_path / "student"
    trained_teacher().save_pretrained(teacher)
    processor().save_pretrained(teacher)
    before = {path.name: path.read_bytes() for path in teacher.iterdir()}
    student = ["cnn:tiny", "--model-fields", "{stage_widths: [[[8]], [[8]]], stage_strides: [1, 2]}"]
    how = ["--epochs", "2", "--batch-size", "16", "--augment", "none", "--mixed-precision", "no"]
    where = ["--data", str(tmp_path / "images"), "--validation", "0.2", "--out", str(out)]
    assert main(["distill", str(teacher), *student, *where, *how]) == 0
    assert {path.name: path.read_bytes() for path in teacher.iterdir()} == before
    assert AutoModelForImageClassification.from_pretrained(out).config.stage_widths == [[[8]], [[8]]]
    record = json.loads((out / "record.json").read_text())
    assert record["training"]["config"]["teacher"] == str(teacher)
    assert record["validation"]["images"] == 12


def test_command_teaches_an_upscaler(tmp_path):
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(pixels).resize((96, 72), Image.Resampling.BICUBIC).save(tmp_path / "photos" / f"{number}.png")
    teacher, out = tmp_path / "teacher", tmp_path / "student"
    SRGANForImageSuperResolution(SRGANConfig(scale=2, hidden_size=8, block_widths=[[8]])).save_pretrained(teacher)
    SRGANImageProcessor().save_pretrained(teacher)
    how = ["--scale", "2", "--crop", "12", "--epochs", "1", "--steps-per-epoch", "3", "--mixed-precision", "no"]
    student = ["fast-tiny", "--model-fields", "{hidden_size: 4, block_widths: [[4]]}"]
    where = ["--data", str(tmp_path / "photos"), "--out", str(out)]
    assert main(["distill", str(teacher), *student, *where, *how]) == 0
    assert AutoModelForImageToImage.from_pretrained(out).config.hidden_size == 4
    assert json.loads((out / "record.json").read_text())["training"]["config"]["teacher"] == str(teacher)
