"""The Space is the demo: it builds from its folder, and what it needs is what the package offers."""

import runpy
from pathlib import Path

import pytest
import yaml

pytest.importorskip("gradio", reason="needs the demo extra")
FOLDER = Path(__file__).parents[1] / "spaces" / "vision"


def test_app_builds_and_offers_its_functions_by_name():
    demo = runpy.run_path(str(FOLDER / "app.py"))["demo"]
    public = {f["api_name"] for f in demo.config["dependencies"] if f["api_visibility"] == "public"}
    assert public == {"classify_image", "upscale_image", "attack_image", "describe_model"}


def test_front_matter_names_the_app_and_requirements_the_package():
    _, front, _ = (FOLDER / "README.md").read_text().split("---\n", 2)
    front = yaml.safe_load(front)
    assert (FOLDER / front["app_file"]).is_file()
    assert front["sdk"] == "gradio"
    assert len(front["short_description"]) <= 60
    assert (FOLDER / "requirements.txt").read_text().startswith("hfvision[")
