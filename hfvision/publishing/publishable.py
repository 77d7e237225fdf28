"""What may be published: files of known kinds, by content, without secrets, paths of somebody's disk, or metadata."""

import json
import mmap
import pickletools
import re
import stat
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open

from ..data.io.picture_metadata import JPEG, PNG, without_metadata
from ..utils.secrets import decoded_bytes, find_path, find_secret, is_secret_field

TEXT = {".json", ".md", ".py", ".svg", ".txt", ".xml", ".yaml", ".yml"}
PICTURES = {".jpeg", ".jpg", ".png"}
WEIGHTS = {".safetensors", ".onnx"}
# Weights that are, or may be, pickles.
UNSAFE = {".bin", ".ckpt", ".h5", ".joblib", ".msgpack", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth"}
MAX_BYTES = {"text": 10_000_000, "picture": 50_000_000, "weights": 5_000_000_000}
# How archives and compressed files start, in which PyTorch and others pack pickles.
ARCHIVES = (b"PK\3\4", b"PK\5\6", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"\x93NUMPY")
CONTROL = re.compile("[\0-\x08\x0b\x0e-\x1f\x7f]")
PRINTABLE = re.compile(rb"[\t -~]{8,}")
EMBEDDED = re.compile(r"(?:[A-Za-z0-9+/_-]{60,}\s{0,3})+[A-Za-z0-9+/_-]*={0,2}")
FRONT_MATTER = re.compile(r"\s*---[ \t]*\r?\n(.*?)\r?\n(?:---|\.\.\.)", re.DOTALL)
# What runs code, or expands without end, in SVG and XML.
ACTIVE = re.compile(
    r"<\s*(?:script|foreignObject|iframe|object|embed)\b|\son\w+\s*=|javascript:|<!ENTITY", re.IGNORECASE
)
ACTIVE_ELEMENTS = {"script", "foreignobject", "iframe", "object", "embed"}
ACTIVE_ADDRESSES = ("javascript:", "vbscript:", "data:text/", "data:image/svg", "data:application/")
ONNX_FIELDS = {1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}  # of a ModelProto
YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# A field's name and its value; texts without a field have an empty name.
Field = tuple[str, Any]


def kind_of(path: Path) -> str | None:
    """`text`, `picture` or `weights` by the name of a file; None for what is not published.

    Raises:
        ValueError: for weights that are not safetensors.
    """
    suffix = path.suffix.lower()
    if path.name == "openvino_model.bin" and path.with_suffix(".xml").is_file():
        return "weights"
    if path.name.endswith(".onnx.data") and path.with_suffix("").is_file():
        return "weights"
    if suffix in UNSAFE:
        raise ValueError(f"{path} is not published: weights must be safetensors. Save them so, or remove the file.")
    kinds = {"text": TEXT, "picture": PICTURES, "weights": WEIGHTS}
    return next((kind for kind, suffixes in kinds.items() if suffix in suffixes), None)


def is_publishable(path: Path) -> bool:
    """Whether a file is of a kind that is published, by its name.

    Raises:
        ValueError: for weights that are not safetensors, a symbolic link, or a file that is larger than `MAX_BYTES`.
    """
    if path.is_symlink():
        raise ValueError(f"{path} is not published: it is a symbolic link. Put the file itself there, or remove it.")
    kind = kind_of(path)
    found = path.stat()
    if kind is None or not stat.S_ISREG(found.st_mode):
        return False
    if found.st_size > MAX_BYTES[kind]:
        raise ValueError(
            f"{path} is not published: it has {found.st_size / 1e6:,.0f} MB, and at most {MAX_BYTES[kind] / 1e6:,.0f} "
            f"MB are published of a {kind} file. Remove or split it."
        )
    return True


def check_publishable(folder: Path, token: str | None = None) -> None:
    """Refuse a folder with something that must not be published.

    Args:
        folder: whose files, at any depth, are looked into.
        token: one that must not occur, however it looks.

    Raises:
        ValueError: for a symbolic link, a file that is not of the kind its name says or of none that is published,
            a picture with metadata, something that looks like a secret, or an absolute path.
    """
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_dir() and not path.is_symlink():
            check_text(name, name.name, token)
        elif is_publishable(path):
            check_file(path, name, token)
        else:
            raise ValueError(f"{name} is not published: it is of no kind that a model needs. Remove it.")


def check_file(path: Path, name: Path, token: str | None = None) -> None:
    """Refuse a file with something that must not be published; arguments and errors as for [`check_publishable`]."""
    check_text(name, name.name, token)
    if not name.name.isprintable():
        raise ValueError(f"{str(name)!a} is not published: its name has characters that cannot be shown.")
    try:
        fields = list(fields_of(path))
    except RecursionError as error:
        raise ValueError(f"{name} is not published: it is nested too deeply to look into.") from error
    except (ValueError, yaml.YAMLError, ElementTree.ParseError) as error:
        raise ValueError(f"{name} is not published: {' '.join(str(error).split())}.") from error
    for field, value in fields:
        if is_secret_field(field, value):
            raise ValueError(f"{name} is not published: its field {field!r} holds a secret. Remove it there.")
    texts = [text for field, value in fields for text in (field, value) if isinstance(text, str) and text]
    check_text(name, "\n".join(dict.fromkeys(texts)), token)
    if path.suffix.lower() in {".onnx", ".safetensors", ".bin", ".data"}:
        check_bytes(path, name, token)


def check_text(name: Path, text: str, token: str | None, *, binary: bool = False) -> None:
    if kind := find_secret(text, token, binary=binary):
        raise ValueError(
            f"{name} is not published: it holds what looks like {kind}. Remove it, and if it is a real token or "
            "password, revoke it."
        )
    if found := find_path(text, binary=binary):
        raise ValueError(
            f"{name} is not published: it holds the path {found!r} of your disk. Remove it; in records, "
            "`hfvision card FOLDER --hide-paths` shortens them."
        )


def check_bytes(path: Path, name: Path, token: str | None) -> None:
    """Search what is readable among the bytes of a file: metadata, names, notes."""
    if not path.stat().st_size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if token and data.find(token.encode()) >= 0:
            check_text(name, token, token)
        check_text(name, b"\n".join(PRINTABLE.findall(data)).decode("ascii"), token, binary=True)


def fields_of(path: Path) -> Iterator[Field]:
    """The names and values in a file, and its text.

    Raises:
        ValueError, YAMLError, ParseError: if it is not of the kind that its name says.
    """
    suffix = path.suffix.lower()
    if suffix in TEXT:
        yield from text_fields(path, read_text(path))
    elif suffix in PICTURES:
        if without_metadata(path.read_bytes()) != path.read_bytes():
            raise ValueError("it holds metadata")
    elif suffix == ".safetensors":
        try:
            with safe_open(path, "pt") as weights:
                yield from (weights.metadata() or {}).items()
                yield from (("", key) for key in weights.keys())  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"it is no safetensors file ({error})") from error
    elif suffix == ".onnx":
        check_onnx(path)
    else:
        check_raw_weights(path)


def read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8 text") from error
    if found := CONTROL.search(text):
        raise ValueError(f"it is no UTF-8 text: it holds the control character {found[0]!r}")
    if is_pickle(text.encode()):
        raise ValueError("it is a pickle")
    return text


def text_fields(path: Path, text: str) -> Iterator[Field]:
    suffix = path.suffix.lower()
    for found in EMBEDDED.findall(text):
        check_embedded("".join(found.split()))
    if suffix == ".json":
        yield from json_fields("", json.loads(text, object_pairs_hook=Pairs))
        return
    yield "", text
    if suffix in (".yaml", ".yml"):
        yield from yaml_fields(text)
    elif suffix == ".md" and (front := FRONT_MATTER.match(text)):
        yield from yaml_fields(front[1])
    elif suffix in (".svg", ".xml"):
        if found := ACTIVE.search(text):
            raise ValueError(f"it holds {found[0]!r}, which could run code")
        for element in ElementTree.fromstring(text).iter():
            check_element(element)
            yield from element.attrib.items()


def check_element(element: ElementTree.Element) -> None:
    """Refuse what could run code in an SVG under any prefix of a namespace, and written in any way."""
    if local_name(element.tag) in ACTIVE_ELEMENTS:
        raise ValueError(f"it holds <{local_name(element.tag)}>, which could run code")
    for name, value in element.attrib.items():
        start = "".join(value.split()).lower()
        if local_name(name).startswith("on") or start.startswith(ACTIVE_ADDRESSES):
            raise ValueError(f"its attribute {local_name(name)} could run code")


def local_name(name: str) -> str:
    return name.rpartition("}")[2].lower()


class Pairs(list):
    """The pairs of a JSON object, with those of a key that comes twice."""


def json_fields(name: str, value: Any) -> Iterator[Field]:
    """The names and values of JSON data; those of a list have the name of the list."""
    if isinstance(value, Pairs):
        named = {key: item for key, item in value if isinstance(item, str)}
        yield named.get("name", named.get("key", "")), named.get("value", "")  # {"name": "API_KEY", "value": …}
        yield "api_key", named.get("key", "") if "username" in named else ""  # of Kaggle
        for key, item in value:
            yield "", key
            if name != "label2id" or not isinstance(item, int):
                yield from json_fields(key, item)
    elif isinstance(value, list):
        if all(isinstance(item, str) for item in value):
            yield "", " ".join(value)  # of a command
        for item in value:
            yield from json_fields(name, item)
    elif isinstance(value, str | int | float):
        yield name, value


def yaml_fields(text: str) -> Iterator[Field]:
    """The names and values of YAML data."""
    seen: set[int] = set()
    for document in yaml.compose_all(text, Loader=YAML):
        yield from json_fields("", yaml_data(document, seen))


def yaml_data(node: yaml.Node, seen: set[int]) -> Any:
    """The data of a node, with the pairs of a key that comes twice; what an alias repeats is not repeated."""
    if isinstance(node, yaml.ScalarNode):
        plain = node.tag.endswith((":int", ":float", ":bool", ":null"))
        return yaml.safe_load(node.value) if plain else node.value
    if node is None or id(node) in seen:
        return None
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        return [yaml_data(item, seen) for item in node.value]
    return Pairs((str(yaml_data(key, seen)), yaml_data(value, seen)) for key, value in node.value)


def check_embedded(encoded: str) -> None:
    """Refuse a file in base64, as of a picture in an SVG, that would not be published by itself."""
    for data in decoded_bytes(encoded):
        if data.startswith((PNG, JPEG)) and without_metadata(data) != data:
            raise ValueError("it holds a picture with metadata")
        if data.startswith(ARCHIVES) or is_pickle(data):
            raise ValueError("it holds an archive or a pickle in base64")


def is_pickle(head: bytes) -> bool:
    """Whether bytes are a pickle, or begin as one of protocol 2 or later does."""
    marked, opcodes = head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"), 0
    try:
        for opcode, *_ in pickletools.genops(head):
            opcodes += 1
            if opcode.name == "STOP":
                break
    except (ValueError, LookupError):
        return marked and opcodes > 3
    return opcodes > (2 if marked else 3)


def check_onnx(path: Path) -> None:
    """Refuse what is no ONNX model: protocol buffers whose fields are those of one, to the end of the file."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start, found = 0, set()
        while start < len(data):
            tag, start = varint(data, start)
            if tag >> 3 not in ONNX_FIELDS or tag & 7 not in (0, 2):
                raise ValueError("it is no ONNX model")
            length, start = varint(data, start)
            start += length if tag & 7 == 2 else 0
            found.add(tag >> 3)
        if start != len(data) or not {1, 7, 8} <= found:  # version, graph, operators
            raise ValueError("it is no ONNX model")


def varint(data: Any, start: int) -> tuple[int, int]:
    """A number of protocol buffers, of 7 bits a byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if start >= len(data):
            break
        byte, start = data[start], start + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
    raise ValueError("it is no ONNX model")


def check_raw_weights(path: Path) -> None:
    """Refuse what is not the weights of the OpenVINO or ONNX model beside it."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if head.startswith(ARCHIVES) or is_pickle(head) or head[257:262] == b"ustar":
        raise ValueError("it is a pickle or an archive, not weights")
    if path.suffix == ".data":
        if path.name.encode() not in path.with_suffix("").read_bytes():
            raise ValueError(f"{path.stem} does not name it as its weights")
        return
    net = ElementTree.parse(path.with_suffix(".xml")).getroot()
    ends = [end for layer in net.iter("data") if (end := weights_end(layer.attrib)) is not None]
    if net.tag != "net" or not ends or max(ends) != path.stat().st_size:
        raise ValueError(f"it is not the weights of {path.with_suffix('.xml').name}")


def weights_end(attributes: dict[str, str]) -> int | None:
    """Where the weights of a layer of an OpenVINO model end in their file."""
    if "offset" not in attributes or "size" not in attributes:
        return None
    return int(attributes["offset"]) + int(attributes["size"])
