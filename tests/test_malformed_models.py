"""Model folders from strangers: whatever is wrong with them ends in one sentence that names the file."""

import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi, snapshot_download
from PIL import Image
from safetensors.torch import load_file, save_file

from hfvision import (
    CNNConfig,
    CNNForImageClassification,
    CNNForSemanticSegmentation,
    CNNSegmentationConfig,
    ImageClassificationProcessor,
    ImageSegmentationProcessor,
    SRGANConfig,
    SRGANForImageSuperResolution,
    SRGANImageProcessor,
    VisionTransformerConfig,
    VisionTransformerForImageClassification,
    checkpoint,
)
from hfvision.cli.main import main
from hfvision.hub.loading import load_model
from hfvision.hub.records import read_record_of

Change = Callable[[Path], None]
COMMANDS = {"cnn": "classify", "vit": "classify", "srgan": "upscale", "segmenter": "segment", "int8": "classify"}
DEEP = 100_000


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with a small valid model of each family, and `image.png`."""
    folder = tmp_path_factory.mktemp("families")
    torch.manual_seed(0)
    labels = {"id2label": {0: "cat", 1: "dog", 2: "ship"}, "label2id": {"cat": 0, "dog": 1, "ship": 2}}
    sides = {"size": {"height": 32, "width": 32}}
    cnn = CNNConfig.from_preset("tiny", stage_widths=[[[8]], [[8]], [[8]]], **labels)
    vit = VisionTransformerConfig.from_preset(
        "cifar", stem_widths=[4, 4, 8, 8], hidden_size=16, num_attention_heads=2, intermediate_size=16, **labels
    )
    segmenter = CNNSegmentationConfig.from_preset("tiny", stage_widths=[[[8]], [[8]], [[8]]], **labels)
    srgan = SRGANConfig.from_preset("fast-tiny", scale=2, hidden_size=4, block_widths=[[4]])
    made = {
        "cnn": (CNNForImageClassification(cnn), ImageClassificationProcessor(**sides)),
        "vit": (VisionTransformerForImageClassification(vit), ImageClassificationProcessor(**sides)),
        "segmenter": (CNNForSemanticSegmentation(segmenter), ImageSegmentationProcessor(**sides)),
        "srgan": (SRGANForImageSuperResolution(srgan), SRGANImageProcessor()),
    }
    for name, (model, processor) in made.items():
        model.save_pretrained(folder / name)
        processor.save_pretrained(folder / name)
    shutil.copytree(checkpoint("cnn-cifar10-small-int8"), folder / "int8")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "image.png")
    return folder


def write(file: str, content: str | bytes) -> Change:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / file).write_bytes(data)


def edit(file: str, field: str, value: Any) -> Change:
    """Set a field of a JSON file; `a.b` is the field b of the object a."""

    def change(folder: Path) -> None:
        settings = part = json.loads((folder / file).read_text())
        *parents, last = field.split(".")
        for parent in parents:
            part = part.setdefault(parent, {})
        part[last] = value
        (folder / file).write_text(json.dumps(settings))

    return change


def weights(make: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Change:
    """Write other tensors into model.safetensors."""

    def change(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        save_file({key: value.contiguous() for key, value in make(state).items()}, folder / "model.safetensors")

    return change


def one_value(value: float) -> Change:
    def make(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        state[max(state, key=lambda key: state[key].numel())].view(-1)[3] = value
        return state

    return weights(make)


def shards(files: Any, metadata: Any = "{}", rename: str = "shard.safetensors") -> Change:
    """An index in the place of model.safetensors, whose weights become the file `rename`."""

    def change(folder: Path) -> None:
        keys = list(load_file(folder / "model.safetensors"))
        (folder / "model.safetensors").rename(folder / rename)
        weight_map = dict.fromkeys(keys, files) if isinstance(files, str) else files
        index = {"weight_map": weight_map, "metadata": json.loads(metadata)}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return change


def cut(file: str, length: int) -> Change:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:length])


def link_out(file: str) -> Change:
    def change(folder: Path) -> None:
        outside = folder.parent / f"outside-{file}"
        shutil.move(folder / file, outside)
        (folder / file).symlink_to(outside)

    return change


def replace(file: str, old: str, new: str, count: int = 1) -> Change:
    def change(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, count))

    return change


def no_file(file: str) -> Change:
    return lambda folder: (folder / file).unlink()


def several(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes] and None


TEXTS = {
    "list": "[]",
    "null": "null",
    "number": "5",
    "text": '"x"',
    "true": "true",
    "empty": "",
    "cut": '{"model_type": "hfvision_cnn"',
    "not json": "{model_type: hfvision_cnn}",
    "deep lists": '{"x": ' + "[" * DEEP + "]" * DEEP + "}",
    "deep objects": '{"x": ' * DEEP + "1" + "}" * DEEP,
    "rather deep": '{"x": ' * 100 + "1" + "}" * 100,
    "bytes": b"\xff\xfe\x00{",
    "nan": '{"model_type": "hfvision_cnn", "logit_scale": NaN}',
    "overflow": '{"model_type": "hfvision_cnn", "logit_scale": 1e999}',
    "digits": '{"model_type": "hfvision_cnn", "image_size": ' + "9" * 5000 + "}",
    "large": '{"model_type": "' + "x" * 11_000_000 + '"}',
}
CONFIG = {
    "cnn": [
        *(("model_type", value) for value in ([], {}, 5, None, "", "x", "../x", "hfvision_vit", "bert")),
        *(("architectures", value) for value in (5, [5], "CNN")),
        *(("auto_map", value) for value in (5, [], "x")),
        *(("dtype", value) for value in ("evil", "load", 5, [], "int8", "complex64")),
        *(("torch_dtype", value) for value in ("evil", ["float32"])),
        *(("quantization_config", value) for value in (5, [], "x", {"quant_method": 5}, {"quant_method": "awq"})),
        ("quantization_config", {"quant_method": "bitsandbytes", "load_in_4bit": True}),
        *(
            ("id2label", value)
            for value in (5, [], ["a"], {"x": "y"}, {"0": 5}, {"0": "a", "2": "b"}, {"0": "a\x1b[2J"})
        ),
        *(("id2label", value) for value in ({"0": "\ud800"}, {"0": "x" * 2000}, {"0": ["a"]}, {})),
        *(("label2id", value) for value in (5, [], {"a": "b"}, {"a": []})),
        *(("num_labels", value) for value in (-1, 100_000_000, 10**30, "x", True, [], 1.5)),
        *(("num_channels", value) for value in (0, -1, "3", None, 10**9, 4, 1)),
        *(("image_size", value) for value in (0, -5, 10**9, 10**12, "32", [32, 32], None, 32.5)),
        *(("stage_widths", value) for value in ([], 5, [[[10**7]], [[10**7]], [[10**7]]], [[["x"]]], [[[0]]], [[8]])),
        *(("stage_strides", value) for value in ([], [0, 0, 0], [-1, 2, 2], [10**6, 10**6, 10**6], "x", [2])),
        *(("classifier_hidden_size", value) for value in (10**8, -1, "x")),
        *(("hidden_act", value) for value in (5, "evil", None, [], "__class__")),
        *(("stem_kernel_size", value) for value in (0, -3)),
        *(("pool_size", value) for value in (10**8, 0, "x", -1)),
        *(("norm_eps", value) for value in ("x", -5.0, None)),
        *(("backbone", value) for value in ("hf-hub:user/model", "../x", "no_such_model", 5, "local-dir:/tmp")),
        *(("return_dict", value) for value in (False, 5)),
        *(("transformers_weights", value) for value in ("../model.safetensors", "adapter_model.bin", "/etc/passwd")),
        ("configuration_files", ["config.4.0.0.json"]),
        *(("attn_implementation", value) for value in ("user/kernel", {"": "user/kernel"}, 5)),
        ("_attn_implementation_internal", "user/kernel"),
        *(("out_indices", value) for value in ("x", [99], [[]])),
        *(("logit_scale", value) for value in ("x", [], 1e308)),
        ("to_dict", 5),
        ("shortcut_projections", [[[[]]]]),
    ],
    "vit": [
        *(("patch_size", value) for value in (0, -8, 7, 10**6, "x")),
        *(("hidden_size", value) for value in (0, 10**6, -1, "x")),
        *(("num_hidden_layers", value) for value in (0, 10**6, -1, 999)),
        *(("num_attention_heads", value) for value in (0, -1, 10**6, [1], "x", [])),
        *(("head_dim", value) for value in (0, 10**6, "x")),
        *(("intermediate_size", value) for value in (10**7, [], 0)),
        *(("stem_widths", value) for value in ([], [10**6] * 4, "x")),
        *(("layer_norm_eps", value) for value in ("x", -1e9)),
        ("initializer_range", "x"),
    ],
    "srgan": [
        *(("scale", value) for value in (0, 1, 5, 100, "2", None, -2, 10**9, [], 3)),
        *(("block_widths", value) for value in ([], [[10**7]], [[-1]], "x", [[4]] * 1500)),
        *(("head_kernel_size", value) for value in (2, 10**6 + 1, -1)),
        *(("num_channels", value) for value in (2, 0, 1)),
        *(("upsampler", value) for value in ("evil", 5)),
        ("hidden_act", "evil"),
        ("discriminator_width", -1),
        ("branch_expansion", 10**8),
    ],
    "segmenter": [
        *(("decoder_widths", value) for value in (5, [], [10**7] * 3, [0], "x")),
        ("num_labels", 10**8),
        ("model_type", "hfvision_cnn"),
        ("stage_strides", [10**6, 2, 2]),
    ],
    "int8": [
        ("quantization_config", {"quant_method": "quanto"}),
        ("quantization_config", {"quant_method": "onnx"}),
        ("num_channels", 1),
        ("id2label", {"0": "a", "1": "b"}),
        ("model_type", "hfvision_srgan"),
        ("image_size", 10**6),
    ],
}
PROCESSOR = [
    *(("image_std", value) for value in (0, [0, 0, 0], [0.2, 0, 0.2], [-1, -1, -1], "x", [], [1, 1], [1e-30] * 3, {})),
    *(("image_mean", value) for value in ("x", ["x"] * 3, [0.5, 0.5], [[0.5] * 3], [1e30] * 3, [None] * 3, True)),
    *(("size", value) for value in (-1, 0, 10**6, "x", {"height": -1, "width": 32}, {"height": 32}, {}, [10**6] * 2)),
    *(("size", value) for value in ({"height": 10**5, "width": 10**5}, {"shortest_edge": 10**6}, {"x": 1}, [1, 2, 3])),
    *(
        ("size", value)
        for value in ({"height": 1, "width": 1}, {"height": "32", "width": 32}, {"height": 1.5, "width": 2})
    ),
    *(("crop_size", value) for value in (-1, "x", 10**7)),
    *(("resample", value) for value in (99, -1, [], {}, 2.5)),
    *(("rescale_factor", value) for value in ("x", 0, -1, 1e300, [])),
    *(("do_resize", value) for value in ("x", [], 5)),
    *(("num_channels", value) for value in (0, 4, "x", 10**9, -3)),
    *(("image_processor_type", value) for value in (5, [], "evil", "AutoModel", "BertConfig", "pipeline")),
    *(("preprocess", value) for value in (5, "x")),
    ("__class__", "x"),
    ("auto_map", 5),
]
WEIGHTS = {
    "nan": one_value(float("nan")),
    "infinite": one_value(float("inf")),
    "minus infinite": one_value(float("-inf")),
    "too large": one_value(3e38),
    "empty": write("model.safetensors", ""),
    "cut": cut("model.safetensors", 3000),
    "cut in the header": cut("model.safetensors", 50),
    "zeros": write("model.safetensors", bytes(100)),
    "long header": write("model.safetensors", b"\xff" * 8 + b"{}"),
    "pickle": write("model.safetensors", b"\x80\x04\x95" + bytes(100)),
    "text": write("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"),
    "none": no_file("model.safetensors"),
    "missing tensor": weights(lambda state: dict(list(state.items())[1:])),
    "no tensors": weights(lambda state: {}),
    "other shape": weights(lambda state: {key: value.flatten() for key, value in state.items()}),
    "other names": weights(lambda state: {f"x.{key}": value for key, value in state.items()}),
    "negative variance": weights(
        lambda state: {key: value - 99 * ("running_var" in key) for key, value in state.items()}
    ),
    "folder": several(no_file("model.safetensors"), lambda folder: (folder / "model.safetensors").mkdir()),
    "pipe": several(no_file("model.safetensors"), lambda folder: os.mkfifo(folder / "model.safetensors")),
    "link out": link_out("model.safetensors"),
    "adapters": write("adapter_config.json", '{"base_model_name_or_path": "/etc", "peft_type": "LORA"}'),
}
INDEX = {
    "bin": shards("pytorch_model.bin", rename="pytorch_model.bin"),
    "parent": shards("../outside.safetensors", rename="../outside.safetensors"),
    "absolute": shards("/tmp/x.safetensors"),
    "subfolder": shards("sub/x.safetensors"),
    "backslash": shards("..\\x.safetensors"),
    "lost": shards("lost.safetensors"),
    "hidden": shards(".safetensors"),
    "newline": shards("x.safetensors\n"),
    "number": shards({"cnn.weight": 5}),
    "list": shards(["shard.safetensors"]),
    "empty map": shards({}),
    "null map": shards(None),
    "no metadata": shards("shard.safetensors", "null"),
    "listed metadata": shards("shard.safetensors", "[]"),
    "many": shards({str(number): f"{number}.safetensors" for number in range(2000)}),
    "linked shard": several(shards("shard.safetensors"), link_out("shard.safetensors")),
}
XML, BIN = "openvino_model.xml", "openvino_model.bin"
OPENVINO = {
    "empty": write(XML, ""),
    "text": write(XML, "version https://git-lfs.github.com/spec/v1"),
    "onnx": write(XML, b"\x08\x08\x12\x07pytorch"),
    "other root": write(XML, "<html></html>"),
    "no layers": write(XML, '<net name="x" version="11"></net>'),
    "deep": write(XML, "<net>" + "<x>" * DEEP + "</x>" * DEEP + "</net>"),
    "entities": write(XML, '<!DOCTYPE net [<!ENTITY a "aaaa">]><net>&a;</net>'),
    "file entity": write(XML, '<!DOCTYPE net [<!ENTITY a SYSTEM "file:///etc/passwd">]><net>&a;</net>'),
    "cut": cut(XML, 5000),
    "offset": replace(XML, 'offset="0"', 'offset="99999999999"'),
    "negative offset": replace(XML, 'offset="0"', 'offset="-8"'),
    "size": replace(XML, ' size="', ' size="99'),
    "shape": replace(XML, 'shape="', 'shape="1000000, 1000000, '),
    "negative shape": replace(
        XML,
        'type="Const" version="opset1"><data element_type="f32" shape="',
        'type="Const" version="opset1"><data element_type="f32" shape="-',
    ),
    "type": replace(XML, 'element_type="f32" shape="24', 'element_type="string" shape="24'),
    "version": replace(XML, 'version="11"', 'version="x"'),
    "layer": replace(XML, 'type="Convolution"', 'type="Evil"'),
    "edge": replace(XML, 'from-layer="0"', 'from-layer="99999"'),
    "strides": replace(XML, 'strides="1, 1"', 'strides="0, 0"'),
    "name": replace(XML, "logits", "evil", 99),
    "no bin": no_file(BIN),
    "no xml": no_file(XML),
    "cut bin": cut(BIN, 100),
    "empty bin": write(BIN, ""),
    "nan": lambda folder: (folder / BIN).write_bytes(b"\xff" * (folder / BIN).stat().st_size),
    "link out": link_out(BIN),
    "linked xml": link_out(XML),
}


def cases() -> dict[str, tuple[str, str, Change]]:
    """Name: family, the file to be named, and what is changed."""
    found: dict[str, tuple[str, str, Change]] = {}
    for name, text in TEXTS.items():
        found[f"cnn config {name}"] = ("cnn", "config.json", write("config.json", text))
        found[f"cnn processor {name}"] = ("cnn", "preprocessor_config.json", write("preprocessor_config.json", text))
    for family in ("vit", "srgan", "segmenter", "int8"):
        for name in ("list", "deep lists", "cut"):
            found[f"{family} config {name}"] = (family, "config.json", write("config.json", TEXTS[name]))
    for family, edits in CONFIG.items():
        for number, (field, value) in enumerate(edits):
            change = edit("config.json", field, value)
            found[f"{family} {field} {str(value)[:20]!r} {number}"] = (family, "config.json", change)
    for number, (field, value) in enumerate(PROCESSOR):
        change = edit("preprocessor_config.json", field, value)
        found[f"cnn processor {field} {str(value)[:20]!r} {number}"] = ("cnn", "preprocessor_config.json", change)
    for value in ([], 5, {"image_processor": 5}, {"image_processor": {"image_std": 0}}):
        change = write("processor_config.json", json.dumps(value))
        found[f"cnn nested processor {value}"] = ("cnn", "processor_config.json", change)
    for family in ("srgan", "segmenter"):
        for field, value in (("num_channels", "x"), ("rescale_factor", 0), ("image_processor_type", "evil")):
            change = edit("preprocessor_config.json", field, value)
            found[f"{family} processor {field}"] = (family, "preprocessor_config.json", change)
    for family in ("srgan", "segmenter"):
        change = edit("preprocessor_config.json", "image_processor_type", "ViTImageProcessor")
        found[f"{family} processor of another family"] = (family, "preprocessor_config.json", change)
    change = edit("preprocessor_config.json", "post_process_super_resolution", 5)
    found["srgan processor method"] = ("srgan", "preprocessor_config.json", change)
    for name, change in WEIGHTS.items():
        found[f"cnn weights {name}"] = (
            "cnn",
            "adapter_config.json" if name == "adapters" else "model.safetensors",
            change,
        )
    for family in ("vit", "srgan", "segmenter"):
        for name in ("nan", "cut", "missing tensor"):
            found[f"{family} weights {name}"] = (family, "model.safetensors", WEIGHTS[name])
    for name, change in INDEX.items():
        file = "shard.safetensors" if name == "linked shard" else "model.safetensors.index.json"
        found[f"cnn index {name}"] = ("cnn", file, change)
    for name, text in TEXTS.items():
        change = several(no_file("model.safetensors"), write("model.safetensors.index.json", text))
        found[f"cnn index {name} text"] = ("cnn", "model.safetensors.index.json", change)
    for name, change in OPENVINO.items():
        found[f"int8 {name}"] = ("int8", "openvino_model", change)
    found["cnn config link out"] = ("cnn", "config.json", link_out("config.json"))
    found["cnn processor link out"] = ("cnn", "preprocessor_config.json", link_out("preprocessor_config.json"))
    found["cnn no processor"] = ("cnn", "preprocessor_config.json", no_file("preprocessor_config.json"))
    return found


CASES = cases()


def memory() -> int:
    """The largest memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run(command: str, folder: Path, image: Path) -> int:
    arguments = {"info": ["info", str(folder)]}.get(command, [command, str(image), "--model", str(folder)])
    if command in ("upscale", "segment"):
        arguments += ["--out", str(folder.parent / "out")]
    return main(arguments)


def test_there_are_enough_cases():
    assert len(CASES) >= 150


@pytest.mark.parametrize("family", COMMANDS)
def test_the_families_are_valid_before_they_are_changed(models, tmp_path, family, capsys):
    shutil.copytree(models / family, tmp_path / "model")
    for command in (COMMANDS[family], "info"):
        if (family, command) != ("int8", "info"):
            assert run(command, tmp_path / "model", models / "image.png") == 0
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", CASES)
def test_malformed_folder_is_refused_in_a_sentence_that_names_the_file(models, tmp_path, name, capsys):
    family, file, change = CASES[name]
    folder = tmp_path / "model"
    shutil.copytree(models / family, folder)
    change(folder)
    before = memory()
    command = "info" if list(CASES).index(name) % 4 == 0 and family != "srgan" else COMMANDS[family]
    assert run(command, folder, models / "image.png") == 2
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    errors = [line for line in said.err.splitlines() if line.startswith("hfvision: error: ")]
    assert len(errors) == 1, said.err
    assert len(errors[0]) < 900
    assert file in errors[0], errors[0]
    assert said.out == ""
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    assert memory() - before < 600e6


def push(folder: Path, repo_id: str) -> None:
    HfApi().create_repo(repo_id)
    HfApi().upload_folder(repo_id=repo_id, folder_path=folder)


@pytest.mark.parametrize("name", ["bin", "parent", "list"])
def test_index_of_a_hub_model_is_checked_before_weights_are_fetched(hub, models, tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(models / "cnn", folder)
    INDEX[name](folder)
    push(folder, "tester/stranger")
    hub.request_log.clear()
    with pytest.raises(ValueError, match=r"tester/stranger/model\.safetensors\.index\.json"):
        load_model("tester/stranger", "image-classification")
    fetched = [request.path for request in hub.request_log if "/resolve/" in request.path]
    assert not [path for path in fetched if not path.endswith((".json", "/model.safetensors"))]


def test_sharded_model_loads_from_a_folder_and_from_the_links_of_the_hub_cache(hub, models, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(models / "cnn", folder)
    shards("shard.safetensors")(folder)
    push(folder, "tester/sharded")
    expected = load_model(str(models / "cnn"), "image-classification")[0].state_dict()
    hub.request_log.clear()
    load_model("tester/sharded", "image-classification")
    moving = [request.path for request in hub.request_log if "/resolve/main/" in request.path]
    assert {path.rsplit("/", 1)[1] for path in moving} == {"config.json"}, "all else is of the commit of that file"
    snapshot = snapshot_download("tester/sharded")
    assert Path(snapshot, "shard.safetensors").is_symlink()
    for name in (str(folder), "tester/sharded", snapshot):
        found = load_model(name, "image-classification")[0].state_dict()
        assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize("name", ["deep lists", "list", "cut", "nan", "bytes", "large"])
def test_record_that_is_no_object_is_refused(models, tmp_path, name):
    shutil.copytree(models / "cnn", tmp_path / "model")
    write("record.json", TEXTS[name])(tmp_path / "model")
    with pytest.raises(ValueError, match=r"record\.json"):
        read_record_of(str(tmp_path / "model"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("training", value) for value in ([], 5, {"config": []}, {"config": {"validation": "x"}})),
        *(("training", value) for value in ({"config": {"seed": "x"}}, {"config": {"validation_group": 5}})),
        *(("compression", value) for value in ({}, 5, [5])),
        ("about", []),
        ("parent", {}),
    ],
)
def test_record_with_parts_of_wrong_types_is_refused(models, tmp_path, field, value):
    shutil.copytree(models / "cnn", tmp_path / "model")
    write("record.json", json.dumps({field: value}))(tmp_path / "model")
    with pytest.raises(ValueError, match=rf"record\.json.*{field}"):
        read_record_of(str(tmp_path / "model"))


RECORDS = [
    *({field: value} for field in ("training", "evaluation", "robustness", "about") for value in (5, "x", [], None)),
    *(
        {"compression": value}
        for value in ({}, 5, [5], [{}], [{"step": 5, "settings": 5}], [{"step": "a", "top1": {"after": "x"}}])
    ),
    *(
        {"training": value}
        for value in ({"data": 5}, {"parameters": "x"}, {"seconds": "x"}, {"history": 5, "photos": 1})
    ),
    *({"training": {"config": value}} for value in (None, [], {"seed": None}, {"epochs": "x"}, {"adversarial": 5})),
    *(
        {"evaluation": value}
        for value in ({"top1": "x"}, {"results": 5}, {"results": {"a": 5}}, {"data": 5, "dice": 1})
    ),
    *({"about": value} for value in ({"data": 5}, {"data": [5]}, {"data": [{}]}, {"data": [{"name": "a", "id": 5}]})),
    *({"robustness": value} for value in ({}, {"robust": 1}, {"settings": 5})),
    *(
        {"calibration": {"temperature": "x"}},
        {"binary": {}},
        {"test": {"top1": None}},
        {"environment": {"libraries": 5}},
    ),
]


@pytest.mark.parametrize("family", ["cnn", "srgan", "segmenter"])
def test_record_of_wrong_values_is_refused_or_its_card_is_written(hub, models, tmp_path, family, capsys):
    folder = tmp_path / "model"
    shutil.copytree(models / family, folder)
    refused = []
    for record in RECORDS:
        write("record.json", json.dumps(record))(folder)
        code, said = main(["card", str(folder), "--force"]), capsys.readouterr().err
        assert code == 0 or (code == 2 and "record.json" in said), (record, said)
        refused += [record] if code else []
    assert len(refused) > len(RECORDS) // 2
    for record in refused[:: len(refused) // 2]:
        write("record.json", json.dumps(record))(folder)
        assert main(["push", str(folder), "tester/strange"]) == 2
        assert "record.json" in capsys.readouterr().err


def test_half_precision_model_classifies(models, tmp_path, capsys):
    shutil.copytree(models / "cnn", tmp_path / "model")
    edit("config.json", "dtype", "bfloat16")(tmp_path / "model")
    assert run("classify", tmp_path / "model", models / "image.png") == 0
    assert "%" in capsys.readouterr().out


def test_attention_over_millions_of_patches_is_refused_uncomputed(models, tmp_path, capsys):
    config = VisionTransformerConfig(
        image_size=2048, patch_size=1, hidden_size=1, num_attention_heads=1, intermediate_size=1, num_hidden_layers=1
    )
    VisionTransformerForImageClassification(config).save_pretrained(tmp_path / "model")
    ImageClassificationProcessor(size={"height": 2048, "width": 2048}).save_pretrained(tmp_path / "model")
    assert run("classify", tmp_path / "model", models / "image.png") == 2
    assert "config.json" in capsys.readouterr().err


def test_what_a_terminal_would_obey_is_not_printed(models, tmp_path, capsys, config_warnings):
    shutil.copytree(models / "cnn", tmp_path / "model")
    edit("config.json", "\x1b]0;evil\x07", 5)(tmp_path / "model")
    assert run("classify", tmp_path / "model", models / "image.png") == 0
    assert "\\x1b]0;evil" in config_warnings.text
    assert "\x1b" not in capsys.readouterr().err + config_warnings.text
