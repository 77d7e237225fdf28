"""The segmenters of both families: what transformers expects, any size, the stock pipeline, code that travels."""

import logging

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from model_checks import ModelChecks
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, pipeline

from hfvision import (
    CNNConfig,
    CNNForImageClassification,
    CNNForSemanticSegmentation,
    CNNSegmentationConfig,
    ImageSegmentationProcessor,
    VisionTransformerConfig,
    VisionTransformerForImageClassification,
    VisionTransformerForSemanticSegmentation,
    VisionTransformerSegmentationConfig,
)
from hfvision.models.cnn.configuration_cnn import PRESETS

SMALL_CNN = {"stage_widths": [[[4, 5]], [[6]], [[7]]], "stage_strides": [1, 2, 2]}
SMALL_VIT = {
    "image_size": 16,
    "patch_size": 8,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "decoder_widths": [8, 6, 4],
}
FAMILIES = {
    "cnn": lambda **fields: CNNForSemanticSegmentation(CNNSegmentationConfig(**SMALL_CNN | fields)),
    "vit": lambda **fields: VisionTransformerForSemanticSegmentation(
        VisionTransformerSegmentationConfig(**SMALL_VIT | fields)
    ),
}


class SegmenterChecks(ModelChecks):
    auto_class = AutoModelForSemanticSegmentation

    def inputs(self):
        generator = torch.Generator().manual_seed(1)
        labels = torch.randint(0, 3, (2, 16, 20), generator=generator)
        labels[:, :3] = 255
        return {"pixel_values": torch.randn(2, 3, 16, 20, generator=generator), "labels": labels}

    def gradcheck_input(self):
        return self.inputs()["pixel_values"][:1, :, :8, :8]


class TestCNNSegmenter(SegmenterChecks):
    model_class = CNNForSemanticSegmentation

    def config(self):
        return CNNSegmentationConfig(**SMALL_CNN, hidden_act="gelu", num_labels=3, decoder_widths=[6, 5])


class TestVisionTransformerSegmenter(SegmenterChecks):
    model_class = VisionTransformerForSemanticSegmentation

    def config(self):
        return VisionTransformerSegmentationConfig(**SMALL_VIT, num_labels=3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [(1, 1), (5, 31), (24, 16), (33, 47)])
def test_logits_have_the_size_of_the_image_whatever_it_is(family, size):
    model = FAMILIES[family](num_labels=4).eval()
    with torch.no_grad():
        assert model(torch.rand(2, 3, *size)).logits.shape == (2, 4, *size)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_of_the_cnn_segments(preset):
    model = CNNForSemanticSegmentation(CNNSegmentationConfig.from_preset(preset, num_labels=2)).eval()
    with torch.no_grad():
        assert model(torch.rand(1, model.config.num_channels, 40, 37)).logits.shape == (1, 2, 40, 37)


@pytest.mark.parametrize("preset", ["unet", "cifar"])
def test_an_object_is_found_where_it_is(preset):
    """Features of all sizes lie over each other: what an object changes is centred on it."""
    torch.manual_seed(0)
    model = CNNForSemanticSegmentation(CNNSegmentationConfig.from_preset(preset, num_labels=2)).eval().double()
    image = torch.zeros(1, 3, 128, 128, dtype=torch.double)
    image[..., 48:64, 32:40] = 1
    background = model(torch.zeros_like(image)).logits
    change = (model(image).logits - background)[0].abs().sum(0).detach()
    weight = change / change.sum()
    rows, columns = (weight.sum(axis) @ torch.arange(128, dtype=torch.double) for axis in (1, 0))
    assert abs(rows - 55.5) < 8  # half of the largest stride
    assert abs(columns - 35.5) < 8


def test_a_timm_backbone_segments_and_reloads_without_its_head(tmp_path):
    config = CNNSegmentationConfig(backbone="timm/test_convnext", num_labels=3)
    model = CNNForSemanticSegmentation(config)
    images, labels = torch.rand(1, 3, 45, 50), torch.zeros(1, 45, 50, dtype=torch.long)
    model(images, labels=labels).loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    model.eval().save_pretrained(tmp_path)
    with torch.no_grad():
        again = AutoModelForSemanticSegmentation.from_pretrained(tmp_path)(images).logits
        torch.testing.assert_close(again, model(images).logits)
    assert again.shape == (1, 3, 45, 50)


@pytest.mark.parametrize("family", FAMILIES)
def test_ignored_pixels_change_nothing(family):
    model = FAMILIES[family](num_labels=3).eval()
    images, labels = torch.rand(1, 3, 16, 16), torch.randint(0, 3, (1, 16, 16))
    ignored = labels.clone()
    ignored[:, 8:] = 255
    outputs = model(images, labels=ignored)
    expected = torch.nn.functional.cross_entropy(outputs.logits[:, :, :8], labels[:, :8])
    torch.testing.assert_close(outputs.loss, expected)
    assert model(images, labels=torch.full_like(labels, 255)).loss == 0


def test_a_classifier_gives_its_encoder(tmp_path):
    fields = {name: value for name, value in SMALL_VIT.items() if name != "decoder_widths"}
    pairs = [
        (CNNForImageClassification(CNNConfig(**SMALL_CNN)), CNNForSemanticSegmentation, "cnn.encoder."),
        (
            VisionTransformerForImageClassification(VisionTransformerConfig(**fields)),
            VisionTransformerForSemanticSegmentation,
            "vit.",
        ),
    ]
    for classifier, segmenter_class, encoder in pairs:
        folder = tmp_path / segmenter_class.__name__
        classifier.save_pretrained(folder)
        segmenter = segmenter_class.from_pretrained(folder, num_labels=3)
        taken = {name: weight for name, weight in segmenter.state_dict().items() if name.startswith(encoder)}
        assert len(taken) > 5
        for name, weight in taken.items():
            assert torch.equal(weight, classifier.state_dict()[name]), name


def test_a_segmenter_gives_a_classifier_its_encoder(tmp_path, config_warnings):
    segmenter = FAMILIES["cnn"](num_labels=3)
    segmenter.save_pretrained(tmp_path)
    logging.getLogger("transformers").propagate = True
    classifier, report = CNNForImageClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert "decoder_widths" in config_warnings.text
    assert {name.split(".")[0] for name in report["unexpected_keys"]} == {"decoder", "head"}
    assert report["missing_keys"] == {"classifier.weight", "classifier.bias"}
    for name, weight in classifier.cnn.state_dict().items():
        assert torch.equal(weight, segmenter.cnn.state_dict()[name]), name


@pytest.mark.parametrize("backbone", ["timm/test_vit", "timm/test_resnet"])
def test_timm_backbones_segment_images_of_any_size_and_checkpoint_the_decoder(backbone):
    model = CNNForSemanticSegmentation(CNNSegmentationConfig(backbone=backbone, num_labels=3)).eval()
    for size in ((1, 1), (45, 50)):
        with torch.no_grad():
            assert model(torch.rand(1, 3, *size)).logits.shape == (1, 3, *size)
    model.gradient_checkpointing_enable()
    assert all(step.gradient_checkpointing for step in model.decoder)


def test_wrong_numbers_of_decoder_widths_are_refused():
    with pytest.raises(ValueError, match=r"decoder_widths must hold 2 widths for this encoder, got \[4\]"):
        FAMILIES["cnn"](decoder_widths=[4])
    with pytest.raises(StrictDataclassError, match="decoder_widths must hold 3 widths"):
        FAMILIES["vit"](decoder_widths=[4])


@pytest.mark.parametrize("family", FAMILIES)
def test_stock_pipeline_segments_a_photograph_of_any_size(family, tmp_path, caplog):
    model = FAMILIES[family](id2label={0: "background", 1: "cell"})
    torch.nn.init.zeros_(model.head.weight)
    model.head.bias.data = torch.tensor([0.0, 1.0])
    model.save_pretrained(tmp_path)
    ImageSegmentationProcessor().save_pretrained(tmp_path)
    assert type(AutoImageProcessor.from_pretrained(tmp_path)) is ImageSegmentationProcessor
    logging.getLogger("transformers").propagate = True
    with caplog.at_level(logging.ERROR):
        segment = pipeline("image-segmentation", model=str(tmp_path))
    assert "not supported" not in caplog.text
    found = segment(Image.new("L", (37, 21), 128))
    assert [part["label"] for part in found] == ["cell"]
    assert found[0]["mask"].size == (37, 21)
    assert found[0]["mask"].getextrema() == (255, 255)
    mixed = [Image.new("L", (37, 21), 128), Image.new("RGB", (20, 30))]
    sizes = [(37, 21), (20, 30)]
    assert [found[0]["mask"].size for found in segment(mixed)] == sizes
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        segment(mixed, batch_size=2)
    segment.image_processor = ImageSegmentationProcessor(do_resize=True, size={"height": 16, "width": 24})
    assert [found[0]["mask"].size for found in segment(mixed, batch_size=2)] == sizes


@pytest.mark.parametrize("family", FAMILIES)
def test_loads_and_segments_without_hfvision(family, tmp_path, run_isolated):
    model = FAMILIES[family](num_labels=2).eval()
    model.save_pretrained(tmp_path)
    ImageSegmentationProcessor().save_pretrained(tmp_path)
    printed = run_isolated(
        f"""
        import io
        import logging
        log = io.StringIO()
        logging.getLogger("transformers").addHandler(logging.StreamHandler(log))
        import torch
        from PIL import Image
        from transformers import AutoModelForSemanticSegmentation, pipeline
        model = AutoModelForSemanticSegmentation.from_pretrained({str(tmp_path)!r}, trust_remote_code=True)
        with torch.no_grad():
            print(model(torch.ones(1, 3, 11, 13)).logits.sum().item())
        segment = pipeline("image-segmentation", model={str(tmp_path)!r}, trust_remote_code=True)
        print({{part["mask"].size for part in segment(Image.new("RGB", (30, 20), "red"))}})
        print("not supported" in log.getvalue())
        """
    ).split("\n")
    with torch.no_grad():
        assert float(printed[0]) == pytest.approx(model(torch.ones(1, 3, 11, 13)).logits.sum().item(), rel=1e-4)
    assert printed[1] == "{(30, 20)}"
    assert printed[2] == "False"


def test_processor_gives_masks_in_the_size_of_the_image():
    class Output:
        logits = torch.stack([torch.zeros(4, 6), torch.linspace(-1, 1, 6).expand(4, 6)])[None]

    processor = ImageSegmentationProcessor()
    (whole,) = processor.post_process_semantic_segmentation(Output)
    assert whole.tolist() == [[0, 0, 0, 1, 1, 1]] * 4
    (large,) = processor.post_process_semantic_segmentation(Output, target_sizes=[(8, 12)])
    assert large.shape == (8, 12)
    assert large[0].tolist() == [0] * 6 + [1] * 6
    with pytest.raises(ValueError, match="one size for each of 1 images"):
        processor.post_process_semantic_segmentation(Output, target_sizes=[(8, 12)] * 2)
    pixel_values = processor(Image.new("L", (31, 17)), return_tensors="pt")["pixel_values"]
    assert pixel_values.shape == (1, 3, 17, 31)
