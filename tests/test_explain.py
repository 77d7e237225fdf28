"""Heat maps: they lie where the network looks, follow its weights, and refuse what they cannot say."""

import pytest
import torch
from PIL import Image
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

from hfvision import (
    CNNConfig,
    CNNForImageClassification,
    ImageClassificationProcessor,
    VisionTransformerConfig,
    VisionTransformerForImageClassification,
)
from hfvision.cli.main import main
from hfvision.inspection.explain import attention_rollout, explain_image, grad_cam, overlay, rollout

QUADRANTS = {"top left": (0, 0), "top right": (0, 16), "bottom left": (16, 0), "bottom right": (16, 16)}


def bright_cnn() -> CNNForImageClassification:
    """A network whose class 1 is "bright" and whose class 0 is "dark", by one convolution that passes pixels on."""
    config = CNNConfig(
        num_channels=1, image_size=32, stage_widths=[[[1]]], stage_strides=[1], norm="none", num_labels=2
    )
    model = CNNForImageClassification(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.zero_()
            if "conv" in name and parameter.ndim == 4:
                parameter[:, :, 1, 1] = 1
        model.classifier.weight.copy_(torch.tensor([[-9.0], [9.0]]))
    return model


def looking_vit(row: int, column: int, pooling: str = "cls") -> VisionTransformerForImageClassification:
    """A transformer whose tokens all attend to the patches of 8 pixels of one quadrant of 16."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 8}
    config = VisionTransformerConfig(
        image_size=32, patch_size=8, num_channels=1, num_labels=2, pooling=pooling, **sizes
    )
    model = VisionTransformerForImageClassification(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.zero_()
        positions = model.vit.embeddings.position_embeddings
        grid = torch.zeros(4, 4, 8)
        grid[row // 8 : row // 8 + 2, column // 8 : column // 8 + 2, 0] = 10
        positions[0, -16:] = grid.flatten(0, 1)
        for layer in model.vit.layers:
            layer.attention.k_proj.weight.copy_(torch.eye(8))
            layer.attention.q_proj.bias[0] = 10
    return model


def inside(heat: torch.Tensor, row: int, column: int) -> float:
    """The share of the heat (32, 32) that lies in the quadrant."""
    return (heat[row : row + 16, column : column + 16].sum() / heat.sum()).item()


@pytest.mark.parametrize(("row", "column"), QUADRANTS.values(), ids=QUADRANTS)
def test_grad_cam_lies_on_what_speaks_for_the_class(row, column):
    pixels = torch.zeros(1, 1, 32, 32)
    pixels[..., row : row + 16, column : column + 16] = 1
    heat = grad_cam(bright_cnn(), pixels, [1])
    assert heat.shape == (1, 32, 32)
    assert inside(heat[0], row, column) > 0.99
    assert heat.max() == pytest.approx(1)
    assert grad_cam(bright_cnn(), pixels, [0]).max() == 0  # brightness speaks against "dark"


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize(("row", "column"), QUADRANTS.values(), ids=QUADRANTS)
def test_rollout_lies_on_what_is_attended_to(row, column, pooling):
    model = looking_vit(row, column, pooling)
    heat = attention_rollout(model, torch.rand(2, 1, 32, 32))
    assert heat.shape == (2, 32, 32)
    assert inside(heat[0], row, column) > 0.8
    assert model.config._attn_implementation != "eager"


def test_rollout_rows_sum_to_one():
    attentions = [torch.rand(3, 4, 6, 6).softmax(-1) for _ in range(5)]
    flow = rollout(attentions)
    assert torch.allclose(flow.sum(-1), torch.ones(3, 6), atol=1e-5)
    by_hand = torch.eye(6).expand(3, 6, 6)
    for attention in attentions:
        by_hand = (0.5 * attention.mean(1) + 0.5 * torch.eye(6)) @ by_hand
    assert torch.allclose(flow, by_hand, atol=1e-6)


def test_attention_of_windows_is_refused():
    with pytest.raises(ValueError, match="all tokens to all"):
        rollout([torch.rand(1, 2, 4, 4), torch.rand(4, 2, 1, 1)])


def test_models_of_transformers():
    torch.manual_seed(0)
    pixels = torch.rand(2, 3, 64, 64)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    vit = ViTForImageClassification(ViTConfig(image_size=64, patch_size=16, num_labels=3, **sizes)).eval()
    resnet = ResNetForImageClassification(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=3)
    ).eval()
    for heat in (attention_rollout(vit, pixels), grad_cam(resnet, pixels)):
        assert heat.shape == (2, 64, 64)
        assert heat.amax((1, 2)).tolist() == pytest.approx([1, 1])


def test_other_weights_give_another_map():
    """The sanity check of Adebayo et al. 2018: a map that does not follow the weights explains nothing."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(4, 3, 32, 32, generator=generator)
    maps = []
    for seed in range(2):
        torch.manual_seed(seed)
        cnn = CNNForImageClassification(CNNConfig.from_preset("tiny", num_labels=3)).eval()
        vit = VisionTransformerForImageClassification(
            VisionTransformerConfig.from_preset("cifar", num_labels=3)
        ).eval()
        with torch.no_grad():
            for name, parameter in vit.named_parameters():
                if "q_proj.weight" in name or "k_proj.weight" in name:
                    parameter.mul_(30)  # of fresh weights all attention is alike
        maps.append([grad_cam(cnn, pixels, [0, 1, 2, 0]), attention_rollout(vit, pixels)])
    for one, other in zip(*maps, strict=True):
        together = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]
        assert together.abs() < 0.7
    torch.manual_seed(1)
    again = CNNForImageClassification(CNNConfig.from_preset("tiny", num_labels=3)).eval()
    assert torch.equal(grad_cam(again, pixels, [0, 1, 2, 0]), maps[1][0])


def test_grad_cam_leaves_no_gradients_and_takes_a_layer():
    torch.manual_seed(0)
    model = CNNForImageClassification(CNNConfig.from_preset("tiny", num_labels=3)).eval()
    pixels = torch.randn(1, 3, 32, 32)
    with torch.inference_mode(False):
        last, early = grad_cam(model, pixels), grad_cam(model, pixels, layer="cnn.encoder.stages.0")
    assert not torch.equal(last, early)
    assert all(parameter.grad is None for parameter in model.parameters())
    with pytest.raises(ValueError, match="no layer 'stage9'"):
        grad_cam(model, pixels, layer="stage9")
    with pytest.raises(ValueError, match="gives no feature maps"):
        grad_cam(model, pixels, layer="classifier")
    with pytest.raises(ValueError, match="classes from 0 to 2"):
        grad_cam(model, pixels, [3])


def test_explanation_of_an_image_of_another_size():
    processor = ImageClassificationProcessor(
        size={"height": 32, "width": 32}, num_channels=1, image_mean=[0.0], image_std=[1.0]
    )
    image = Image.new("L", (120, 90))
    image.paste(255, (60, 0, 120, 45))
    found = explain_image(image, bright_cnn(), processor, label="LABEL_1")
    assert (found.label, found.method, found.overlay.size) == ("LABEL_1", "grad_cam", (120, 90))
    assert inside(found.heat, 0, 16) > 0.95
    assert found.probability == pytest.approx(torch.tensor(18 * 0.25).sigmoid().item(), abs=0.01)
    grey, warm = found.overlay.getpixel((10, 80)), found.overlay.getpixel((90, 20))
    assert grey[0] == grey[1] == grey[2]
    assert warm[0] > warm[2]
    by_attention = explain_image(image, looking_vit(0, 0), processor)
    assert by_attention.method == "rollout"
    with pytest.raises(ValueError, match="no class 'cat'"):
        explain_image(image, bright_cnn(), processor, label="cat")
    with pytest.raises(ValueError, match="cuts no patches"):
        explain_image(image, bright_cnn(), processor, method="rollout")


def test_overlay_takes_16_bit_and_colour():
    heat = torch.rand(8, 8)
    for mode in ("L", "RGB", "RGBA"):
        assert overlay(Image.new(mode, (20, 10)), heat).size == (20, 10)


def test_command(tmp_path, capsys):
    folder = tmp_path / "model"
    bright_cnn().save_pretrained(folder)
    ImageClassificationProcessor(
        size={"height": 32, "width": 32}, num_channels=1, image_mean=[0.0], image_std=[1.0]
    ).save_pretrained(folder)
    Image.new("L", (64, 48), 200).save(tmp_path / "a.png")
    words = ["explain", str(tmp_path / "a.png"), "--model", str(folder), "--out", str(tmp_path / "why.png")]
    assert main(words) == 0
    assert Image.open(tmp_path / "why.png").width > 128
    assert "LABEL_1" in capsys.readouterr().out
    assert main(words) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*words, "--force", "--label", "cat"]) == 2
    assert "no class 'cat'" in capsys.readouterr().err
