"""Sphinx configuration: `sphinx-build -W docs build/docs` from the root of the repository."""

import importlib.metadata
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from generate import write_pages

project = "hfvision"
author = "The hfvision authors"
release = importlib.metadata.version("hfvision")
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
html_theme = "furo"
html_title = f"hfvision {release}"
html_theme_options = {"source_repository": ""}
exclude_patterns = ["generate.py"]
myst_enable_extensions = ["colon_fence", "html_image"]
myst_heading_anchors = 3
copybutton_prompt_text = ">>> "
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
nitpicky = False
suppress_warnings = ["config.cache"]


def markdown_to_rst(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are written in Markdown: `code` and [`name`] become literals of reStructuredText."""
    text = re.sub(r"\[`([^`]+)`\]", r"`\1`", "\n".join(lines))
    text = re.sub(r"(?<!`)`([^`]+)`(?!`)", lambda found: "``" + re.sub(r"\s*\n\s*", " ", found[1]) + "``", text)
    lines[:] = text.split("\n")


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", markdown_to_rst, priority=100)
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir)))
