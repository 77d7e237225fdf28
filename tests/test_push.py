"""Publishing: model, processor, code and card in one commit, a Space beside it, and nothing that is not for others."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from demo_http import png
from hub_server import HubServer
from huggingface_hub import HfApi, constants, hf_hub_download
from safetensors.torch import load_file, save_file
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
    add_lora,
    list_checkpoints,
    push_folder,
    push_to_hub,
    sample_dataset,
    sample_photos,
)
from hfvision.cli.main import main
from hfvision.models.cnn import configuration_cnn
from hfvision.models.srgan import configuration_srgan
from hfvision.models.vit import configuration_vit
from hfvision.publishing.cards.write import card_files

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
        "configuration_common.py",
        "configuration_srgan.py",
        "discriminator_srgan.py",
        "generator_srgan.py",
        "image_processing_srgan.py",
        "image_reading.py",
        "model.safetensors",
        "model_card.py",
        "modeling_common.py",
        "modeling_srgan.py",
        "pipeline_srgan.py",
        "preprocessor_config.json",
        "tiles_srgan.py",
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
    with pytest.raises(PermissionError, match="does not accept this token"):
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
            outputs[name] = model.eval()(inputs[name])[0].contiguous()
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


def pushed_files(hub: HubServer, name: str = "upscaler", kind: str = "model") -> dict:
    return hub.repos[kind, f"tester/{name}"].at("main").files


def card_of(hub: HubServer, name: str) -> str:
    return pushed_files(hub, name)["README.md"].data.decode()


def pasted(hub: HubServer, name: str) -> str:
    """What the pushed card tells to paste, for `run_isolated`, with a photograph to use it on."""
    (code,) = re.findall("```python\n(.*?)```", card_of(hub, name), re.DOTALL)
    photo = str(sample_photos()["cat"])
    return f"import shutil\nshutil.copy({photo!r}, 'photo.jpg')\n{code}"


@pytest.fixture
def folder(model, tmp_path) -> Path:
    """A small upscaler with a record."""
    folder = tmp_path / "small"
    model.save_pretrained(folder)
    SRGANImageProcessor().save_pretrained(folder)
    training = {"command": "hfvision train superres --data photos", "seconds": 60, "parameters": 1, "data": ["photos"]}
    (folder / "record.json").write_text(json.dumps({"training": training}))
    return folder


def test_shipped_models_load_elsewhere_by_the_lines_of_their_cards(hub, run_isolated):
    for name, source in list_checkpoints().items():
        assert main(["push", str(source), f"tester/{name}"]) == 0
        files = pushed_files(hub, name)
        weights = "openvino_model.bin" if name.endswith("-int8") else "model.safetensors"
        assert files[weights].data == (source / weights).read_bytes()
        assert files["record.json"].data == (source / "record.json").read_bytes()
        results = {path for path in files if path.startswith(".eval_results/")}
        assert results == {path for path in card_files(source) if path.startswith(".eval_results/")}
        assert results or name.startswith("imagenet-")  # which were measured on a sample, not on a data set of the Hub
    floats = [name for name in list_checkpoints() if not name.endswith("-int8")]
    answers = run_isolated("\n".join(pasted(hub, name) for name in floats))
    assert answers.count("'label': ") == sum(not name.startswith("sr-") for name in floats)


def test_pushing_a_folder_again_makes_no_commit_and_a_change_makes_one(hub, folder, capsys):
    first = push_folder(folder, "tester/upscaler", with_space=True)
    assert {what: pushed.new for what, pushed in first.items()} == {"model": True, "space": True}
    assert main(["push", str(folder), "tester/upscaler", "--with-space"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("unchanged") == 2
    assert first["model"].url in printed
    assert first["space"].url in printed
    assert commits() == 2
    (folder / "metrics.json").write_text("[]")
    assert push_folder(folder, "tester/upscaler")["model"].new
    assert commits() == 3


def test_a_generated_card_follows_its_record_and_a_written_one_stays(hub, folder):
    push_folder(folder, "tester/upscaler")
    record = json.loads((folder / "record.json").read_text())
    record["training"]["command"] = "hfvision train superres --data others"
    (folder / "record.json").write_text(json.dumps(record))
    push_folder(folder, "tester/upscaler")
    assert "--data others" in card_of(hub, "upscaler")
    HfApi().upload_file(repo_id=REPO, path_or_fileobj=b"---\nlicense: mit\n---\n# Theirs\n", path_in_repo="README.md")
    push_folder(folder, "tester/upscaler")
    assert "# Theirs" in card_of(hub, "upscaler")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    push_folder(folder, "tester/upscaler")
    assert "# Mine" in card_of(hub, "upscaler")


def test_branch_pull_request_and_privacy_of_a_folder(hub, folder):
    push_folder(folder, "tester/upscaler", private=True, revision="trial")
    repo = hub.repos["model", REPO]
    assert repo.private
    assert "model.safetensors" not in pushed_files(hub)
    assert "model.safetensors" in repo.at("trial").files
    pushed = push_folder(folder, "tester/upscaler", create_pr=True)["model"]
    assert pushed.url.endswith("/discussions/1")
    assert "model.safetensors" in repo.at("refs/pr/1").files
    HfApi().create_repo("tester/open")
    with pytest.raises(ValueError, match="already exists and is public"):
        push_folder(folder, "tester/open", private=True)
    assert set(pushed_files(hub, "open")) == {".gitattributes"}


def test_a_space_serves_the_model_without_hfvision(hub, run_isolated, folder):
    pytest.importorskip("gradio", reason="needs the demo extra")
    push_folder(list_checkpoints()["cnn-cifar10"], "tester/classifier", with_space=True)
    push_folder(folder, "tester/upscaler", with_space=True)
    assert hub.repos["space", "tester/classifier"].sdk == "gradio"
    photo, small = str(sample_photos()["cat"]), png()
    code = f"""
        import base64, runpy
        import httpx
        from huggingface_hub import snapshot_download
        from PIL import Image
        photo = Image.open({photo!r})
        def app(name):
            return runpy.run_path(snapshot_download("tester/" + name, repo_type="space") + "/app.py")
        scores = app("classifier")["classify_image"](photo)
        print(max(scores, key=scores.get), len(scores))
        bicubic, result = app("upscaler")["upscale_image"](photo)
        assert bicubic.size == result.size == (2 * photo.width, 2 * photo.height)
        bytes_ = {small!r}
        for name, function in (("classifier", "classify_image"), ("upscaler", "upscale_image")):
            demo = app(name)["demo"]
            _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, show_error=True)
            ask = lambda image: httpx.post(url + "gradio_api/run/" + function, json={{"data": [image]}})
            for path in ({photo!r}, "/dev/zero", "/no/such.png", "../../../" + {photo!r}):
                for image in ({{"path": path}}, {{"path": path, "url": "x"}}, {{"path": path, "orig_name": "a.svg"}}):
                    answer = ask(image)
                    assert answer.status_code == 500 and "no such upload" in answer.text, answer.text
            uploaded = httpx.post(url + "gradio_api/upload", files={{"files": ("a.png", bytes_)}}).json()[0]
            assert ask({{"path": uploaded}}).status_code == 200
            assert ask({{"url": "data:image/png;base64," + base64.b64encode(bytes_).decode()}}).status_code == 200
            demo.close()
            print("closed")
    """
    printed = run_isolated(code, env={"GRADIO_ANALYTICS_ENABLED": "False"}).split()
    assert "5" in printed
    assert printed.count("closed") == 2


def test_a_space_that_somebody_wrote_is_left_alone(hub, folder):
    push_folder(folder, "tester/upscaler", with_space=True)
    HfApi().upload_file(repo_id=REPO, repo_type="space", path_or_fileobj=b"print('mine')\n", path_in_repo="app.py")
    with pytest.raises(ValueError, match="somebody wrote"):
        push_folder(folder, "tester/upscaler", with_space=True)
    assert pushed_files(hub, kind="space")["app.py"].data == b"print('mine')\n"


@pytest.mark.parametrize("route", ["create_repo", "preupload", "lfs_batch", "lfs_put", "commit"])
def test_a_connection_cut_once_is_taken_up_again(hub, folder, monkeypatch, route):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("hfvision.publishing.push.PAUSES", (0, 0))
    hub.fail_next(route)
    push_folder(folder, "tester/upscaler")
    assert commits() == 2
    AutoModelForImageToImage.from_pretrained(REPO)


@pytest.mark.parametrize("route", ["lfs_put", "commit"])
def test_a_push_that_was_cut_off_goes_on_where_it_was(hub, folder, monkeypatch, capsys, route):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("hfvision.publishing.push.PAUSES", (0, 0))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    hub.fail_next(route, 1000)
    assert main(["push", str(folder), "tester/upscaler"]) == 2
    assert "run the same again" in capsys.readouterr().err
    assert commits() == 1
    sent = hub.routes().count("lfs_put")
    hub.mend()
    assert main(["push", str(folder), "tester/upscaler"]) == 0
    assert commits() == 2
    assert hub.routes().count("lfs_put") == 1
    assert sent == (1 if route == "commit" else 0), "what had arrived was not sent again"


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("pytorch_model.bin", b"\x80\x02}q\x00.", "safetensors"),
        ("weights.pt", b"PK\x03\x04", "safetensors"),
        ("notes.json", b'{"token": "hf_' + b"AbCdEfGhIj" * 3 + b'"}', "token"),
        ("notes.json", b'{"token": "hf_test_token"}', "token"),
        ("notes.yaml", b"key: AKIA" + b"ABCDEFGHIJKLMNOP\n", "AWS key"),
        ("config.yaml", b"data: /home/me/photos\n", "--hide-paths"),
        ("metrics.json", b'["C:\\\\Users\\\\me\\\\photos"]', "--hide-paths"),
        ("extra.safetensors", b"\x80\x02}q\x00.", "no safetensors"),
        ("notes.json", b'"\xff\xfe"', "UTF-8"),
    ],
)
def test_what_must_not_be_published_is_refused_before_anything_is_sent(hub, folder, capsys, file, content, said):
    (folder / file).write_bytes(content)
    assert main(["push", str(folder), "tester/upscaler"]) == 2
    error = capsys.readouterr().err
    assert file in error
    assert said in error
    assert "AbCdEfGhIj" not in error
    assert not hub.repos


def test_a_token_or_path_in_the_metadata_of_weights_is_refused(hub, folder):
    weights = load_file(folder / "model.safetensors")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt", "made_in": "/home/me/runs"})
    with pytest.raises(ValueError, match="/home/me/runs"):
        push_folder(folder, "tester/upscaler")
    assert not hub.repos


def test_mistakes_end_in_one_line(hub, folder, tmp_path, capsys):
    for words in ([str(tmp_path / "nowhere"), "tester/x"], [str(tmp_path), "tester/x"], [str(folder), "a/b/c"]):
        assert main(["push", *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    weights = load_file(folder / "model.safetensors")
    weights.pop(next(iter(weights)))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert main(["push", str(folder), "tester/x"]) == 2
    assert "lacks weights" in capsys.readouterr().err
    assert not hub.repos


def test_pruned_and_adapted_models_load_elsewhere(hub, run_isolated, tmp_path):
    torch.manual_seed(0)
    pruned = CNNConfig.from_preset("tiny", stage_widths=[[[7, 11]], [[13, 5]], [[9, 9]]], num_labels=3, image_size=32)
    processor = ImageClassificationProcessor(size={"height": 32, "width": 32})
    models = {"pruned": CNNForImageClassification(pruned).eval()}
    adapted = add_lora(CNNForImageClassification(CNNConfig.from_preset("tiny", num_labels=3, image_size=32)), 2)
    with torch.no_grad():
        for parameter in adapted.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    models["adapted"] = adapted.eval()
    models["pruned"].save_pretrained(tmp_path / "pruned")
    processor.save_pretrained(tmp_path / "pruned")
    push_folder(tmp_path / "pruned", "tester/pruned")
    push_to_hub(adapted, "tester/adapted", processor=processor)
    assert "lora" in " ".join(adapted.state_dict()), "the model itself keeps its adapters"
    inputs = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        outputs = {name: model(pixel_values=inputs).logits for name, model in models.items()}
    save_file({"inputs": inputs, **outputs}, tmp_path / "tensors.safetensors")
    run_isolated(f"""
        import torch
        from safetensors.torch import load_file
        from transformers import AutoModelForImageClassification

        tensors = load_file({str(tmp_path / "tensors.safetensors")!r})
        for name in ("pruned", "adapted"):
            model = AutoModelForImageClassification.from_pretrained("tester/" + name, trust_remote_code=True)
            with torch.no_grad():
                torch.testing.assert_close(model(tensors["inputs"]).logits, tensors[name], rtol=1e-4, atol=1e-4)
    """)


def test_adapters_alone_are_refused_with_what_to_push_instead(hub, folder):
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="merged model"):
        push_folder(folder, "tester/upscaler")


def test_everything_that_has_a_card_is_published_by_one_script(hub):
    script = Path(__file__).parents[1] / "scripts" / "push_to_hub.py"
    command = [sys.executable, str(script), "tester", "--private"]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    models = {("model", f"tester/{name}") for name in list_checkpoints()}
    assert set(hub.repos) == {*models, ("space", "tester/hfvision")}
    assert all(repo.private for repo in hub.repos.values())
    for kind, name in models:
        weights = "openvino_model.bin" if name.endswith("-int8") else "model.safetensors"
        assert weights in hub.repos[kind, name].at("main").files
    space = Path(__file__).parents[1] / "spaces" / "vision"
    pushed = pushed_files(hub, "hfvision", "space")
    assert all(pushed[path.name].data == path.read_bytes() for path in space.iterdir() if path.is_file())


def test_int8_models_load_elsewhere_by_the_lines_of_their_cards(hub, run_isolated, folder, tmp_path):
    pytest.importorskip("nncf", reason="needs the openvino extra")
    pytest.importorskip("optimum.intel", reason="needs the openvino extra")
    from hfvision.compression.quantize import quantize

    names = sample_dataset("fashion_mnist")["test"].features["label"].names
    config = CNNConfig.from_preset("tiny", num_channels=1, image_size=28, id2label=dict(enumerate(names)))
    CNNForImageClassification(config).save_pretrained(tmp_path / "cnn")
    size = {"height": 28, "width": 28}
    ImageClassificationProcessor(size=size, num_channels=1, image_mean=[0.5], image_std=[0.5]).save_pretrained(
        tmp_path / "cnn"
    )
    photos = [str(path) for path in sample_photos().values()]
    for name, source, data in (("cnn", tmp_path / "cnn", "fashion_mnist"), ("upscaler", folder, photos)):
        quantize(str(source), tmp_path / "int8" / name, calibration=data, images=10)
        push_folder(tmp_path / "int8" / name, f"tester/{name}", with_space=name == "cnn")
        assert {"openvino_model.xml", "openvino_model.bin"} <= set(pushed_files(hub, name))
        assert "model.safetensors" not in pushed_files(hub, name)
    app = pushed_files(hub, "cnn", "space")["app.py"].data.decode().split("def check")[0]
    answers = run_isolated(
        pasted(hub, "cnn") + app + "\nprint(model('photo.jpg')[0])", env={"GRADIO_ANALYTICS_ENABLED": "False"}
    )
    first, second = (line for line in answers.splitlines() if "'label': " in line)
    assert first == second
    code = [sys.executable, "-c", pasted(hub, "upscaler")]
    subprocess.run(code, cwd=tmp_path, env=os.environ | {"HF_HOME": str(tmp_path / "home")}, check=True, timeout=120)
    assert (tmp_path / "photo_x2.png").is_file()
