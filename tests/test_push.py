"""`hfvision.push_to_hub`: model, processor, code and card in one commit."""

from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import save_file
from transformers import AutoImageProcessor, AutoModelForImageToImage

from hfvision import (
    CNNConfig,
    CNNForImageClassification,
    ImageClassificationProcessor,
    SRGANConfig,
    SRGANForImageSuperResolution,
    SRGANImageProcessor,
    VisionTransformerConfig,
    VisionTransformerForImageClassification,
    push_to_hub,
)
from hfvision.models.cnn import configuration_cnn
from hfvision.models.srgan import configuration_srgan
from hfvision.models.vit import configuration_vit

REPO = "tester/upscaler"


@pytest.fixture
def model() -> SRGANForImageSuperResolution:
    torch.manual_seed(0)
    config = SRGANConfig.from_preset("fast-tiny", scale=2, hidden_size=4, block_widths=[[4]])
    return SRGANForImageSuperResolution(config)


def commits() -> int:
    return len(HfApi().list_repo_commits(REPO))


def test_one_commit_with_everything(hub, model):
    push_to_hub(model, REPO, processor=SRGANImageProcessor())
    assert commits() == 2, "the repository's own first commit, and this one"
    files = set(HfApi().list_repo_files(REPO)) - {".gitattributes"}
    assert files == {
        "README.md",
        "config.json",
        "configuration_srgan.py",
        "image_processing_srgan.py",
        "model.safetensors",
        "modeling_srgan.py",
        "pipeline_srgan.py",
        "preprocessor_config.json",
    }
    loaded = AutoModelForImageToImage.from_pretrained(REPO)
    pixel_values = torch.rand(1, 3, 6, 6)
    torch.testing.assert_close(loaded(pixel_values).reconstruction, model.eval()(pixel_values).reconstruction)
    assert isinstance(AutoImageProcessor.from_pretrained(REPO), SRGANImageProcessor)
    with Path(hf_hub_download(REPO, "README.md")).open(encoding="utf-8") as card:
        assert f'model="{REPO}"' in card.read()


def test_pushing_again_makes_no_commit_and_keeps_an_edited_card(hub, model):
    push_to_hub(model, REPO, processor=SRGANImageProcessor())
    push_to_hub(model, REPO, processor=SRGANImageProcessor())
    assert commits() == 2
    HfApi().upload_file(path_or_fileobj=b"my card", path_in_repo="README.md", repo_id=REPO)
    push_to_hub(model, REPO, processor=SRGANImageProcessor())
    assert commits() == 3
    with Path(hf_hub_download(REPO, "README.md")).open(encoding="utf-8") as card:
        assert card.read() == "my card"


def test_empty_template_card_is_replaced(hub, model):
    SRGANImageProcessor().push_to_hub(REPO)
    card = Path(hf_hub_download(REPO, "README.md"))
    assert "[More Information Needed]" in card.read_text(encoding="utf-8")
    push_to_hub(model, REPO, processor=SRGANImageProcessor())
    card = Path(hf_hub_download(REPO, "README.md"))
    assert "[More Information Needed]" not in card.read_text(encoding="utf-8")


def test_branch_and_pull_request_leave_main_alone(hub, model):
    push_to_hub(model, REPO, processor=SRGANImageProcessor())
    with torch.no_grad():
        model.generator.head[0].bias += 1
    push_to_hub(model, REPO, processor=SRGANImageProcessor(), revision="trial")
    info = push_to_hub(model, REPO, processor=SRGANImageProcessor(), create_pr=True)
    assert info.pr_revision == "refs/pr/1"
    for revision in ("trial", "refs/pr/1"):
        loaded = AutoModelForImageToImage.from_pretrained(REPO, revision=revision)
        assert torch.equal(loaded.generator.head[0].bias, model.generator.head[0].bias)
    assert not torch.equal(
        AutoModelForImageToImage.from_pretrained(REPO).generator.head[0].bias, model.generator.head[0].bias
    )


def test_wrong_token_is_refused_before_anything_is_sent(hub, model):
    with pytest.raises(HfHubHTTPError, match="401"):
        push_to_hub(model, REPO, processor=SRGANImageProcessor(), token="hf_wrong")
    assert not hub.repos


def preset_models():
    """Every preset of every family; the ViTs' identical layers are cut to two."""
    for name in configuration_cnn.PRESETS:
        yield f"cnn-{name}", CNNForImageClassification(CNNConfig.from_preset(name))
    for name in configuration_vit.PRESETS:
        config = VisionTransformerConfig.from_preset(name, num_hidden_layers=2)
        yield f"vit-{name}", VisionTransformerForImageClassification(config)
    for name in configuration_srgan.PRESETS:
        yield f"sr-{name}", SRGANForImageSuperResolution(SRGANConfig.from_preset(name))


def test_every_preset_goes_over_the_hub(hub, run_isolated, tmp_path):
    torch.manual_seed(0)
    inputs, outputs = {}, {}
    for name, model in preset_models():
        size = 16 if name.startswith("sr") else model.config.image_size
        inputs[name] = torch.rand(1, 3, size, size)
        processor = SRGANImageProcessor() if name.startswith("sr") else ImageClassificationProcessor()
        push_to_hub(model, f"tester/{name}", processor=processor)
        with torch.no_grad():
            outputs[name] = model.eval()(inputs[name])[0].clone()
    save_file(inputs, tmp_path / "inputs.safetensors")
    save_file(outputs, tmp_path / "outputs.safetensors")
    run_isolated(f"""
        import torch
        from safetensors.torch import load_file
        from transformers import AutoModelForImageClassification, AutoModelForImageToImage

        outputs = load_file({str(tmp_path / "outputs.safetensors")!r})
        for name, pixel_values in load_file({str(tmp_path / "inputs.safetensors")!r}).items():
            auto = AutoModelForImageToImage if name.startswith("sr") else AutoModelForImageClassification
            model = auto.from_pretrained("tester/" + name, trust_remote_code=True)
            with torch.no_grad():
                torch.testing.assert_close(model(pixel_values)[0], outputs[name])
    """)
    hub.clear()
