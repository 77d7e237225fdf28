"""What a push refuses, or takes off, because it is not for others: secrets, paths, metadata, pickles."""

import base64
import io
import itertools
import json
import pickle
import random
import shutil
import string
from pathlib import Path
from urllib.parse import quote

import pytest
import torch
from huggingface_hub import HfApi
from PIL import ExifTags, Image, ImageCms, PngImagePlugin
from safetensors.torch import load_file, save_file

from hfvision import SRGANConfig, SRGANForImageSuperResolution, SRGANImageProcessor, sample_photos
from hfvision.cli.main import main
from hfvision.publishing.publishable import MAX_BYTES

REPO = "tester/upscaler"


def drawn(count: int, letters: str = string.ascii_letters + string.digits) -> str:
    """Letters drawn by chance, so that no file of the repository holds what looks like a secret."""
    return "".join(random.Random(count).choices(letters, k=count))


def encoded(data: dict) -> str:
    return base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")


CAPITALS, HEX = string.ascii_uppercase + string.digits, "0123456789abcdef"
SECRETS = {
    "Hugging Face": "hf_" + drawn(34),
    "AWS": "AKIA" + drawn(16, CAPITALS),
    "AWS, for a time": "ASIA" + drawn(16, CAPITALS),
    "AWS, secret": drawn(40),
    "GitHub": "ghp_" + drawn(36),
    "GitHub, refresh": "ghr_" + drawn(36),
    "GitHub, fine": "github_pat_" + drawn(22) + "_" + drawn(59),
    "GitLab": "glpat-" + drawn(20),
    "Google": "AIza" + drawn(35),
    "Google, OAuth": "ya29." + drawn(60),
    "npm": "npm_" + drawn(36),
    "PyPI": "pypi-" + "AgEIcHlwaS5vcmc" + drawn(80),
    "Stripe": "sk_live_" + drawn(24),
    "SendGrid": f"SG.{drawn(22)}.{drawn(43)}",
    "Slack": f"xoxb-{drawn(12, string.digits)}-{drawn(24)}",
    "Slack, webhook": f"https://hooks.slack.com/services/T{drawn(8, CAPITALS)}/B{drawn(9, CAPITALS)}/{drawn(24)}",
    "JWT": f"{encoded({'alg': 'HS256'})}.{encoded({'sub': 'ada'})}.{drawn(43)}",
    "header": f"Bearer {drawn(30)}",
    "Weights & Biases": "WANDB_API_KEY=" + drawn(40, HEX),
    "Kaggle": "KAGGLE_KEY=" + drawn(32, HEX),
    "Azure": f"AccountName=ada;AccountKey={drawn(86)}==",
    "Telegram": f"{drawn(9, string.digits)}:{drawn(35)}",
    "OpenAI": f"sk-proj-{drawn(40)}",
    "database": "postgres://ada:" + "hunter2@db.example.org/photos",
    "login": "ada:" + "hunter2@db.example.org",
    "option": "hfvision push a b/c --token " + drawn(12),
    "assignment": "password = 'let" + "mein'",
    "private key": "-----BEGIN OPENSSH " + "PRIVATE KEY-----",
}
PLACES = {
    "notes.json": lambda secret: json.dumps({"log": [f"line\n{secret}\tend"]}),
    "notes.yaml": lambda secret: yaml_quoted(f"line\t{secret}"),
    "notes.md": lambda secret: f"---\nlicense: mit\nnote: {json.dumps(secret)}\n---\n# Mine\n",
    "notes.txt": lambda secret: f"one\n{secret}\n",
    "notes.py": lambda secret: f"note = {secret!r}\n",
    "notes.svg": lambda secret: f'<svg xmlns="http://www.w3.org/2000/svg"><text>{xml(secret)}</text></svg>',
}


def yaml_quoted(text: str) -> str:
    return f"notes:\n  - {json.dumps(text)}\n"


def xml(text: str) -> str:
    return "".join(f"&#{ord(letter)};" for letter in text)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "small"
    torch.manual_seed(0)
    config = SRGANConfig.from_preset("fast-tiny", scale=2, hidden_size=4, block_widths=[[4]])
    SRGANForImageSuperResolution(config).save_pretrained(folder)
    SRGANImageProcessor().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A small upscaler's folder."""
    return shutil.copytree(saved, tmp_path / "small")


@pytest.fixture
def refused(hub, folder, capsys):
    """Push the folder with a file more, which must be refused in one line; what was said."""

    def push(name: str, content: str | bytes) -> str:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        capsys.readouterr()
        assert main(["push", str(folder), REPO]) == 2, f"{name} was pushed: {content[:200]!r}"
        assert not hub.repos, "nothing was sent"
        path.unlink()
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "is not published" in error
        return error

    return push


def test_secrets_of_every_kind_are_refused(refused):
    for (kind, secret), place in zip(SECRETS.items(), itertools.cycle(PLACES), strict=False):
        error = refused(place, PLACES[place](secret))
        assert place in error
        assert secret not in error, kind


def test_secrets_are_refused_wherever_they_stand(refused):
    for place, written in PLACES.items():
        refused(place, written(SECRETS["GitLab"]))
        refused(place, written(SECRETS["JWT"]))


@pytest.mark.parametrize(
    "data",
    [
        {"password": "hunter2"},
        {"password": 20261130},
        {"hub": {"apiKey": "abcd"}},
        {"login": [{"client-secret": "abcd"}]},
        {"passwords": ["abcd", "efgh"]},
        {"Pass ": "hunter2"},
        {"auth": ["ada", "hunter2"]},
        {"notes": "my password is hun" + "ter2"},
        {"notes": "set HF_TOKEN " + "abcd1234efgh"},
        {"env": [{"name": "WANDB_API_KEY", "value": "abcd"}]},
        {"command": ["hfvision", "push", "--token", "abcdefgh"]},
        {"username": "ada", "key": drawn(32, HEX)},
        {SECRETS["GitHub"]: 1},
    ],
)
def test_fields_that_name_a_secret_are_refused(refused, data):
    refused("notes.json", json.dumps(data))
    refused("notes.md", f"---\nextra: {json.dumps(data)}\n---\n# Mine\n")


def test_a_field_that_comes_twice_hides_nothing(refused):
    refused("notes.json", '{"token": "abcdefgh", "token": ""}')
    refused("notes.yaml", "token: abcdefgh\ntoken:\n")


def test_encodings_hide_nothing(refused):
    for secret in (SECRETS["GitLab"], "/home/ada/photos"):
        once = base64.b64encode(f"x {secret} y".encode()).decode()
        for text in (
            once,
            base64.b64encode(once.encode()).decode(),
            secret.encode().hex(),
            base64.b64encode(secret.encode("utf-16-le")).decode(),
            quote(quote(secret, safe=""), safe=""),
            "".join(f"%{ord(letter):02x}" for letter in secret),
            "".join(f"\\u{ord(letter):04x}" for letter in secret),
            "".join(f"\\x{ord(letter):02x}" for letter in secret),
            json.dumps(json.dumps({"inner": f"\n{secret}"})),
            xml(xml(secret)),
            "".join(chr(ord(letter) + 0xFEE0) for letter in secret),
            "\u200b".join(secret),
        ):
            refused("notes.json", json.dumps({"note": text}, ensure_ascii=False))
        refused("notes.txt", secret.encode("utf-16"))
        refused("notes.txt", secret.encode("utf-16-le"))


def test_names_of_files_are_searched_too(refused):
    refused(f"{SECRETS['GitHub']}.txt", "x")


PATHS = [
    "C:/Users/ada/x",
    r"C:\Users\ada\x",
    r"\\server\share\x",
    "data:/home/ada/x",
    "</home/ada/x>",
    "-/home/ada/x",
    "-I/home/ada/x",
    "*/home/ada*",
    "file:///home/ada/x",
    "file:///C:/ada/x",
    "file://server/share/x",
    "~/photos",
    "~ada/photos",
    "/root/x",
    "/Users/ada",
    "/mnt/d/x",
    "/tmp/x",
    "/etc/somewhere/else",
    "(/data/ada/x)",
    "/photos",
    "/数据",
    "smb://server/share/x",
    "//server/share/x",
]


def test_absolute_paths_of_every_form_are_refused(refused):
    for number, path in enumerate(PATHS):
        data = {"source": path} if number % 2 else [f"'{path}'"]
        assert "--hide-paths" in refused("notes.json", json.dumps(data))
    assert "--hide-paths" in refused("notes.json", json.dumps({"/home/ada/x": 1}))


HARMLESS = [
    "https://example.org/home/ada/x?next=/a/b and s3://bucket/data/x",
    "2026/11/30 24/7 N/A and/or he/she/it w/o 8/255 application/json </a></div><br/> ## /or/ > /dev/null",
    "[upscaler](/tester/upscaler) runs/x/y ./data/x ../home/x ${ROOT}/data/x **/data/*.png #!/usr/bin/env python",
    "/m/01g317",
    "sha256 " + drawn(64, HEX) + " git " + drawn(40, HEX) + " 123e4567-e89b-12d3-a456-426614174000",
    "VisionTransformerForImageClassification2 token: [CLS] mask_token num_tokens=196 --token TOKEN api_key=<yours>",
    "mailto:ada@example.org, ada@example.org, author:ada@example.org, https://user@example.org",
    "runs/CIFAR10/cnn-tiny/checkpoints/step-100000/model.safetensors",
    "password: required; the secret is patience; keys: 3; sk-image-super-resolution-x4-light-networks",
]


def test_what_only_resembles_a_secret_or_a_path_goes_out(hub, folder):
    data = {"notes": HARMLESS, "token": "", "password": None, "cls_token": "[CLS]", "api_key": "${API_KEY}"}
    data |= {"label2id": {"password": 0, "token": 10000}, "use_mask_token": True, "hash": drawn(64, HEX)}
    (folder / "notes.json").write_text(json.dumps(data))
    (folder / "notes.txt").write_text("\n".join(HARMLESS))
    (folder / "notes.md").write_text(f"---\nlicense: mit\n---\n{' '.join(HARMLESS)}")
    (folder / "notes.yaml").write_text("a: &a [x, x]\nb: [*a, *a]\ntoken:\nsteps: 5\nday: 2026-11-30\n")
    assert main(["push", str(folder), REPO]) == 0
    assert {"notes.json", "notes.txt", "notes.md", "notes.yaml"} <= set(HfApi().list_repo_files(REPO))


def test_hidden_paths_make_a_record_publishable(hub, folder):
    command = "hfvision train superres --data '/Users/Ada Lovelace/My photos' --out /home/ada/runs/x"
    results = {"/home/ada/x": {"scale": 2, "sets": {}}, "/home/bob/x": {"scale": 2, "sets": {}}}
    record = {"training": {"command": command, "data": ["C:\\Users\\ada\\photos"]}, "paths": PATHS}
    (folder / "record.json").write_text(json.dumps(record | {"evaluation": {"results": results}}))
    assert main(["push", str(folder), REPO]) == 2
    assert main(["card", str(folder), "--hide-paths"]) == 0
    assert main(["push", str(folder), REPO]) == 0
    text = (folder / "record.json").read_text()
    assert "--data 'My photos' --out x" in text
    assert "Lovelace" not in text
    assert set(json.loads(text)["evaluation"]["results"]) == {"x", "x (2)"}


def photograph(kind: str) -> bytes:
    """A photograph that tells where it was taken, by whom, and more, and that lies on its side."""
    image = Image.open(sample_photos()["cat"]).convert("RGB").resize((48, 32))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "Ada's camera"
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (48.0, 51.0, 29.0), 3: "E", 4: (2.0, 17.0, 40.0)})
    about: dict = {"comment": b"Ada's garden", "xmp": b"<x:xmpmeta>Ada</x:xmpmeta>"}
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("Author", "Ada")
        text.add_text("Comment", "Ada " * 100, zip=True)
        text.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta>Ada</x:xmpmeta>")
        about = {"pnginfo": text}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    file = io.BytesIO()
    image.save(file, kind, exif=exif, icc_profile=profile, dpi=(300, 300), progressive=True, **about)
    return file.getvalue() + b"Ada's second picture"


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_pictures_go_out_without_metadata_and_look_the_same(hub, folder, capsys, kind):
    name = f"photo.{kind.lower()}"
    data = photograph(kind)
    (folder / name).write_bytes(data)
    assert main(["push", str(folder), REPO]) == 0
    assert f"not pushed, the metadata in: {name}" in capsys.readouterr().err
    pushed = hub.repos["model", REPO].at("main").files[name].data
    for word in (b"Ada", b"camera", b"xmp", b"sRGB"):
        assert word not in pushed
    before, after = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(pushed))
    assert after.tobytes() == before.tobytes()
    assert dict(after.getexif()) == {ExifTags.Base.Orientation: 6}
    assert after.info["dpi"] == before.info["dpi"]
    lab = ImageCms.createProfile("LAB")
    colors = [
        ImageCms.profileToProfile(each, io.BytesIO(each.info["icc_profile"]), lab, outputMode="LAB").tobytes()
        for each in (before, after)
    ]
    assert colors[0] == colors[1]
    assert main(["push", str(folder), REPO]) == 0
    assert "unchanged" in capsys.readouterr().out


def test_a_picture_in_a_drawing_has_no_metadata_either(refused):
    for wrapped in (base64.b64encode, base64.encodebytes):
        data = wrapped(photograph("JPEG")).decode()
        picture = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="data:image/jpeg;base64,{data}"/></svg>'
        assert "metadata" in refused("plot.svg", picture)


def test_metadata_of_weights_is_searched(hub, folder, refused):
    weights = load_file(folder / "model.safetensors")
    for extra in ({"made_in": "/home/ada/runs"}, {"note": SECRETS["GitLab"]}, {SECRETS["npm"]: ""}):
        save_file(weights, folder / "other.safetensors", metadata={"format": "pt"} | extra)
        refused("other.safetensors", (folder / "other.safetensors").read_bytes())
    text = torch.frombuffer(bytearray(b"\0\1/home/ada/photos\0"), dtype=torch.uint8)
    save_file({"note": text}, folder / "other.safetensors")
    refused("other.safetensors", (folder / "other.safetensors").read_bytes())


def field(number: int, content: bytes | int) -> bytes:
    """A field of protocol buffers."""
    if isinstance(content, int):
        return bytes([number << 3, content])
    return (
        bytes([number << 3 | 2, *([len(content)] if len(content) < 128 else [len(content) & 127 | 128, 1])]) + content
    )


def onnx(note: str = "", key: str = "about") -> bytes:
    """An ONNX model of no operators, with a note in its metadata."""
    graph, opset = field(2, b"graph") + field(10, note.encode()), field(2, 20)
    metadata = field(1, key.encode()) + field(2, note.encode())
    return field(1, 10) + field(2, b"pytorch") + field(7, graph) + field(8, opset) + field(14, metadata)


def test_metadata_of_onnx_models_is_searched(hub, folder, refused):
    for note in (SECRETS["GitHub"], "/home/ada/model.py", r"C:\Users\ada\x"):
        refused("model.onnx", onnx(note))
    refused("model.onnx", onnx(key=SECRETS["npm"]))
    (folder / "model.onnx").write_bytes(onnx("nothing"))
    assert main(["push", str(folder), REPO]) == 0


def archived(protocol: int | None) -> bytes:
    """Tensors as PyTorch saves them, in its older form, or another pickle."""
    file = io.BytesIO()
    if protocol is None:
        torch.save({"weight": torch.ones(2)}, file)
    elif protocol == -1:
        torch.save({"weight": torch.ones(2)}, file, _use_new_zipfile_serialization=False)
    else:
        pickle.dump({"weight": [1, 2, 3], "f": print}, file, protocol=protocol)
    return file.getvalue()


def test_pickles_are_refused_under_any_name(hub, folder, refused):
    net = '<net name="x"><layers><layer><data offset="0" size="{}"/></layer></layers></net>'
    (folder / "model.onnx").write_bytes(onnx("model.onnx.data"))
    for protocol in (None, -1, 0, 2, 5):
        data = archived(protocol)
        (folder / "notes.xml").write_text(net.format(len(data)))
        (folder / "openvino_model.xml").write_text(net.format(len(data)))
        names = ["a.safetensors", "a.onnx", "notes.bin", "a.json", "a.txt", "a.md", "a.py", "a.svg", "a.png", "a.pt"]
        if protocol != 0:
            names += ["openvino_model.bin", "model.onnx.data"]
        for name in names:
            refused(name, data)


def test_weights_that_are_not_those_of_their_model_are_refused(hub, folder, refused):
    refused("model.bin", bytes(8))
    (folder / "openvino_model.xml").write_text(
        '<net><layers><layer><data offset="0" size="8"/></layer></layers></net>'
    )
    refused("openvino_model.bin", bytes(16))
    (folder / "openvino_model.xml").write_text("<other/>")
    refused("openvino_model.bin", bytes(16))
    (folder / "model.onnx").write_bytes(onnx("nothing"))
    refused("model.onnx.data", bytes(16))


def test_files_that_are_too_large_are_refused(hub, folder, capsys):
    for name, kind in (("notes.txt", "text"), ("a.png", "picture"), ("a.safetensors", "weights")):
        with (folder / name).open("wb") as file:
            file.truncate(MAX_BYTES[kind] + 1)
        assert main(["push", str(folder), REPO]) == 2
        error = capsys.readouterr().err
        assert name in error
        assert "at most" in error
        (folder / name).unlink()
    assert not hub.repos


def test_symbolic_links_are_refused(hub, folder, tmp_path, capsys):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "config.json").write_text((folder / "config.json").read_text())
    for name, target in (("notes.json", "config.json"), ("more", "."), ("config.json", "config.json"), ("x.md", "no")):
        kept = (folder / name).read_bytes() if (folder / name).is_file() else None
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(outside / target)
        assert main(["push", str(folder), REPO]) == 2
        assert "symbolic link" in capsys.readouterr().err
        (folder / name).unlink()
        if kept:
            (folder / name).write_bytes(kept)
    assert not hub.repos


def test_text_that_is_not_what_its_name_says_is_refused(refused):
    deep = "[" * 200_000
    for name, content in (
        ("a.json", deep + deep.replace("[", "]")),
        ("a.json", "{broken"),
        ("a.yaml", deep),
        ("a.yaml", "a: [1"),
        ("a.svg", "<svg><script>alert(1)</script></svg>"),
        ("a.svg", '<svg onload="alert(1)"/>'),
        ("a.svg", '<svg xmlns:s="http://www.w3.org/2000/svg"><s:script>alert(1)</s:script></svg>'),
        ("a.svg", '<svg><a href="java&#115;cript:alert(1)">x</a></svg>'),
        ("a.svg", '<svg><a href=" data:text/html,%3Cscript%3E">x</a></svg>'),
        ("a\x1b]0;x.txt", "x"),
        ("a.xml", '<!DOCTYPE x [<!ENTITY a "aa">]><x>&a;</x>'),
        ("a.svg", "no drawing"),
        ("a.txt", b"\x00\x01"),
        ("a.png", b"\x89PNG\r\n\x1a\n"),
        ("a.jpg", b"<html>"),
        ("README.md", b"\xff\xfe"),
        ("record.json", f'{{"about": {{"note": "{SECRETS["GitLab"]}"}}}}'),
    ):
        refused(name, content)


def test_what_is_left_out_is_named_with_the_reason(hub, folder, capsys):
    (folder / "adapter").mkdir()
    (folder / "adapter" / "notes.json").write_text('{"token": "abcdefgh"}')
    (folder / ".env").write_text("TOKEN=abcdefgh")
    (folder / "events.out\x1b[2J").write_text("x")
    assert main(["push", str(folder), REPO]) == 0
    said = capsys.readouterr().err
    assert "not pushed, folders: adapter" in said
    assert "not pushed, hidden: .env" in said
    assert "not pushed, of no kind that a model needs: events.out\\x1b[2J" in said
    assert not {"adapter/notes.json", ".env"} & set(HfApi().list_repo_files(REPO))
