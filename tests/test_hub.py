"""What models, processors and pipelines push is whole: it loads, bit-equal, where hfvision is not installed."""

import textwrap
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path

import pytest
import torch
from hub_server import HubServer
from huggingface_hub import HfApi, constants
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms.functional import pil_to_tensor
from transformers import AutoModelForImageClassification, PreTrainedModel, pipeline

from hfvision import (
    CNNConfig,
    CNNForImageClassification,
    ImageClassificationProcessor,
    SRGANConfig,
    SRGANDiscriminator,
    SRGANForImageSuperResolution,
    SRGANImageProcessor,
    SRGANModel,
    VisionTransformerConfig,
    VisionTransformerForImageClassification,
)

LABELS = {0: "cat", 1: "dog", 2: "ship"}

LOAD = """
    import os, re
    import torch
    from huggingface_hub import constants, hf_hub_download
    from PIL import Image
    from safetensors.torch import load_file
    from torchvision.transforms.functional import pil_to_tensor
    from transformers import (
        AutoBackbone,
        AutoConfig,
        AutoImageProcessor,
        AutoModel,
        AutoModelForImageClassification,
        AutoModelForImageToImage,
        pipeline,
    )

    os.chdir(FOLDER)
    photo = Image.open("photo.jpg")
    expected = load_file("expected.safetensors")
    torch.set_grad_enabled(False)

    def load(auto, repo_id):
        return auto.from_pretrained(repo_id, trust_remote_code=True)

    def check(name, tensor):
        torch.testing.assert_close(tensor, expected.pop(name), rtol=1e-4, atol=1e-5, msg=lambda text: name + text)

    for repo_id in ("tester/cnn", "tester/vit"):
        assert load(AutoConfig, repo_id).id2label == {0: "cat", 1: "dog", 2: "ship"}
        pixels = load(AutoImageProcessor, repo_id)(photo, return_tensors="pt")["pixel_values"]
        check(f"{repo_id} pixels", pixels)
        check(f"{repo_id} logits", load(AutoModelForImageClassification, repo_id)(pixels).logits)
        check(f"{repo_id} pooled", load(AutoModel, repo_id)(pixels).pooler_output)
        classify = pipeline("image-classification", model=repo_id, trust_remote_code=True)
        scores = {answer["label"]: answer["score"] for answer in classify("photo.jpg")}
        found = torch.tensor([scores["cat"], scores["dog"], scores["ship"]])
        torch.testing.assert_close(found, expected.pop(f"{repo_id} scores"))
        if repo_id == "tester/cnn" and not constants.HF_HUB_OFFLINE:  # AutoBackbone asks the Hub in any case
            check("feature map", load(AutoBackbone, repo_id)(pixels).feature_maps[-1])

    for repo_id in ("tester/upscaler", "tester/pipeline"):
        pixels = load(AutoImageProcessor, repo_id)(photo, return_tensors="pt")["pixel_values"]
        check(f"{repo_id} reconstruction", load(AutoModelForImageToImage, repo_id)(pixels).reconstruction)
        upscale = pipeline("image-super-resolution", model=repo_id, trust_remote_code=True)
        check(f"{repo_id} image", pil_to_tensor(upscale("photo.jpg")))

    check("fake logits", load(AutoModel, "tester/gan")(pixels).fake_logits)
    check("generator alone", load(AutoModelForImageToImage, "tester/gan")(pixels).reconstruction)
    check("discriminator", load(AutoModel, "tester/discriminator")(pixels).logits)
    assert not set(expected) - {"feature map"}, expected.keys()

    for name in ("cnn", "vit", "upscaler", "pipeline", "gan", "discriminator"):
        with open(hf_hub_download(f"tester/{name}", "README.md"), encoding="utf-8") as card:
            (example,) = re.findall("```python\\n(.*?)```", card.read(), re.DOTALL)
        assert f'"tester/{name}"' in example
        exec(example)
"""


def moved(model: PreTrainedModel) -> PreTrainedModel:
    """The model with everything that it saves moved off its initial value, in evaluation mode."""
    torch.manual_seed(0)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor += 0.02 * torch.rand_like(tensor)
    return model.eval()


def tiny_cnn() -> CNNForImageClassification:
    return moved(CNNForImageClassification(CNNConfig.from_preset("tiny", id2label=LABELS)))


@torch.no_grad()
def push_all(folder: Path) -> None:
    """Push each family; write a photo and what it gives into `folder`."""
    photo = Image.effect_noise((24, 20), 90).convert("RGB")
    photo.save(folder / "photo.jpg")
    photo = Image.open(folder / "photo.jpg")
    expected: dict[str, torch.Tensor] = {}

    vit_config = VisionTransformerConfig.from_preset(
        "cifar", hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, id2label=LABELS
    )
    vit = moved(VisionTransformerForImageClassification(vit_config))
    processor = ImageClassificationProcessor(size={"height": 32, "width": 32}, image_mean=[0.4, 0.5, 0.6])
    cnn = tiny_cnn()
    for repo_id, model in (("tester/cnn", cnn), ("tester/vit", vit)):
        model.push_to_hub(repo_id)
        processor.push_to_hub(repo_id)
        pixels = processor(photo, return_tensors="pt")["pixel_values"]
        expected[f"{repo_id} pixels"] = pixels
        expected[f"{repo_id} logits"] = model(pixels).logits
        classify = pipeline("image-classification", model=model, image_processor=processor)
        scores = sorted(classify(photo), key=itemgetter("label"))
        expected[f"{repo_id} scores"] = torch.tensor([answer["score"] for answer in scores])
        expected[f"{repo_id} pooled"] = model.base_model(pixels).pooler_output
    expected["feature map"] = cnn.base_model(pixels, output_hidden_states=True).hidden_states[-1]

    config = SRGANConfig.from_preset("fast-tiny", scale=2, discriminator_width=8)
    gan, processor = moved(SRGANModel(config)), SRGANImageProcessor()
    upscaler, discriminator = moved(SRGANForImageSuperResolution(config)), moved(SRGANDiscriminator(config))
    pixels = processor(photo, return_tensors="pt")["pixel_values"]
    upscale = pipeline("image-super-resolution", model=upscaler, image_processor=processor)
    upscaler.push_to_hub("tester/upscaler")
    processor.push_to_hub("tester/upscaler")
    upscale.push_to_hub("tester/pipeline")
    gan.push_to_hub("tester/gan")
    discriminator.push_to_hub("tester/discriminator")
    for repo_id in ("tester/upscaler", "tester/pipeline"):
        expected[f"{repo_id} reconstruction"] = upscaler(pixels).reconstruction
        expected[f"{repo_id} image"] = pil_to_tensor(upscale(photo))
    expected["fake logits"] = gan(pixels).fake_logits
    expected["generator alone"] = gan(pixels).reconstruction
    expected["discriminator"] = discriminator(pixels).logits
    expected = {name: tensor.contiguous().clone() for name, tensor in expected.items()}
    save_file(expected, folder / "expected.safetensors")


@pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])
def test_round_trip_without_hfvision(
    hub: HubServer, run_isolated: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, xet: bool
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", not xet)  # the variable was read at import
    push_all(tmp_path)
    for repo in hub.repos.values():
        files = repo.at("main").files
        assert {Path(path).suffix for path in files} <= {"", ".json", ".md", ".py", ".safetensors"}
        assert bool(files["model.safetensors"].xet_hash) == xet
        assert b"[More Information Needed]" not in files["README.md"].data
    assert len(hub.repos) == 6

    home, env = tmp_path / "home", {"HF_HUB_DISABLE_XET": str(int(not xet))}
    code = f"FOLDER = {str(tmp_path)!r}\n{textwrap.dedent(LOAD)}"
    run_isolated(code, home=home, env=env)
    assert ("xet_read_token" in hub.routes()) == xet
    assert ("lfs_get" in hub.routes()) != xet
    asked = len(hub.request_log)
    run_isolated(code, home=home, env=env | {"HF_HUB_OFFLINE": "1"})
    assert len(hub.request_log) == asked


def test_pushing_again_commits_only_changes(hub: HubServer) -> None:
    model, processor = tiny_cnn(), ImageClassificationProcessor()
    repo = "tester/cnn"

    def push() -> list[str]:
        model.push_to_hub(repo)
        processor.push_to_hub(repo)
        return [commit.commit_id for commit in HfApi().list_repo_commits(repo)]

    first = push()
    assert len(first) == 3
    assert push() == first
    with torch.no_grad():
        model.classifier.bias += 1
    assert len(push()) == 4


def test_pull_request_and_branch(hub: HubServer) -> None:
    repo, model = "tester/cnn", tiny_cnn()
    model.push_to_hub(repo)
    before = model.classifier.bias.detach().clone()
    for revision, options in (("refs/pr/1", {"create_pr": True}), ("exp", {"revision": "exp"})):
        with torch.no_grad():
            model.classifier.bias += 1
        model.push_to_hub(repo, **options)
        loaded = AutoModelForImageClassification.from_pretrained(repo, revision=revision)
        assert torch.equal(loaded.classifier.bias, model.classifier.bias)
    assert torch.equal(AutoModelForImageClassification.from_pretrained(repo).classifier.bias, before)
    assert len(HfApi().list_repo_commits(repo)) == 2
