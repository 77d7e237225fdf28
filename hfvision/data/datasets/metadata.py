"""Reads the tables that say more of the images in a folder: `metadata.csv`, `metadata.jsonl`, `metadata.parquet`."""

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ..io.tree import Tree, printable
from .columns import LABEL_NAMES

Rows = Mapping[Path, Mapping[str, Any]]


def read_metadata(tree: Tree) -> dict[Path, dict[str, Any]]:
    """The other columns for each image that a metadata file names in its column `file_name`.

    Raises:
        ValueError: for a file that cannot be read, that names an image which is not there, or that says two different
            things of one image.
    """
    rows: dict[Path, dict[str, Any]] = {}
    there = set(tree.images)
    for path in tree.metadata:
        table = read_table(path)
        columns = dict.fromkeys(name for row in table for name in row)
        if "file_name" not in columns:
            found = f"; the columns are: {', '.join(map(printable, columns))}" if columns else ""
            tree.left_out.add(f"metadata files without a column file_name{found}", path)
            continue
        for row in table:
            image = find_image(path, str(row.pop("file_name")), there)
            row = {name: None if value == "" and name.lower() in LABEL_NAMES else value for name, value in row.items()}
            if rows.setdefault(image, row) != row:
                raise ValueError(f"The metadata names the image {printable(image)} twice, with different values.")
    return rows


def label_of(row: Mapping[str, Any]) -> Any:
    """The first value of a column that is named as labels are; None where there is none."""
    return next((value for name, value in row.items() if name.lower() in LABEL_NAMES and value is not None), None)


def find_image(table: Path, name: str, there: Collection[Path]) -> Path:
    """The image that a metadata file calls `name`, also with the backslashes of Windows."""
    paths = [Path(os.path.normpath(table.parent / part)) for part in (name, name.replace("\\", "/"))]
    found = next((path for path in paths if path in there), None)
    if found is None:
        raise ValueError(f"{printable(table)} names the image {printable(paths[0])}, which is not there.")
    return found


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a metadata file, as dicts."""
    try:
        if path.suffix.lower() == ".parquet":
            return pyarrow.parquet.read_table(path).to_pylist()
        text = path.read_text(encoding="utf-8-sig")
        return read_json_lines(text) if path.suffix.lower() == ".jsonl" else read_csv(text)
    except UnicodeDecodeError:
        raise ValueError(f"{printable(path)} is no UTF-8 text: save it as UTF-8.") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{printable(path)} cannot be read: {error}") from error


def read_json_lines(text: str) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            rows.append(json.loads(line))
            if not isinstance(rows[-1], dict):
                raise ValueError(f"line {number} is no JSON object")
    return rows


def read_csv(text: str) -> list[dict[str, Any]]:
    """Rows of a CSV file; numbers with leading zeros, dates, and words such as NA stay text, as they are names."""
    data = pa.py_buffer(text.encode())
    table = pyarrow.csv.read_csv(pa.BufferReader(data))
    numbers = {field.name for field in table.schema if pa.types.is_integer(field.type)}
    names = {f.name for f in table.schema if pa.types.is_temporal(f.type) or pa.types.is_null(f.type)}
    options = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(numbers | names, pa.string()))
    as_text = pyarrow.csv.read_csv(pa.BufferReader(data), convert_options=options)
    for name in numbers:
        values = zip(table[name].to_pylist(), as_text[name].to_pylist(), strict=True)
        if any(value is not None and str(value) != text for value, text in values):
            names.add(name)
    for name in names:
        table = table.set_column(table.column_names.index(name), name, as_text[name])
    return table.to_pylist()
