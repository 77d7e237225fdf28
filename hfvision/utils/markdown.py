"""Markdown: tables, and text that somebody else wrote put into it so that it shows as it is, without any markup."""

import re
from collections.abc import Sequence
from typing import Any

# Letters that no text needs and that turn it around or end its line.
CONTROL = re.compile("[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069]")
SPECIAL = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
# What starts a heading, list, quotation, rule or setext heading where a line starts with it.
BLOCK = re.compile(r"(#{1,6}|[-+=]+|\d{1,9}(?=[.)]))(?=\s|$|[.)](?:\s|$))")
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def plain(text: Any) -> str:
    """Text in one line that Markdown shows as it is."""
    line = " ".join(CONTROL.sub("", str(text)).split())
    line = SPECIAL.sub(lambda found: f"\\{found[0]}", line)
    return start_of_line(re.sub(r"&(?=#?\w+;)|[<>]", lambda found: ENTITIES[found[0]], line))


def start_of_line(line: str) -> str:
    """A line of a paragraph that starts nothing else."""
    found = BLOCK.match(line)
    if not found:
        return line
    return f"{found[1]}\\{line[found.end() :]}" if found[1].isdigit() else f"\\{line}"


def code(text: Any) -> str:
    """Text in one line as code."""
    line = " ".join(CONTROL.sub("", str(text)).split())
    ticks = "`" * (longest_ticks(line) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"


def fenced(text: Any, language: str = "") -> str:
    """Lines as a block of code, which no line of it can end."""
    lines = CONTROL.sub("", str(text))
    ticks = "`" * max(3, longest_ticks(lines) + 1)
    return f"{ticks}{language}\n{lines}\n{ticks}"


def longest_ticks(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A GitHub table; the first column is text, the others are aligned to the right."""
    lines = ["| " + " | ".join(header) + " |", "|---" + "|--:" * (len(header) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])
