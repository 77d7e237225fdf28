"""Round trips of every model family between two environments, such as both ends of the range of transformers.

    python scripts/round_trip.py --python envs/oldest/bin/python --python envs/newest/bin/python

One environment saves a small model of each family into a folder and pushes it to a Hub on this machine (that of
tests/hub_server.py); the other loads both with hfvision, and without it by the code that travels with the weights. The
outputs must agree to 1e-6. All pairs of the environments are tried, each also with itself. Prints a line for each pair
and way, and exits with 1 if one failed.

Hardware: CPU. Time: about two minutes for two environments.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

PIXELS = """
import sys, torch
from pathlib import Path
from safetensors.torch import load_file, save_file
folder, owner = Path(sys.argv[1]), sys.argv[2]
pixel_values = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))

def output(model):
    with torch.no_grad():
        outputs = model.eval()(pixel_values)
    return outputs["reconstruction" if "reconstruction" in outputs else "logits"].contiguous()
"""
WRITE = (
    PIXELS
    + """
from hfvision import *
CNN = {"stem_width": 6, "stage_widths": [[[6, 6]], [[8, 8]]], "stage_strides": [1, 2], "block_type": "basic"}
VIT = {"image_size": 16, "patch_size": 4, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 24, "num_labels": 3}
SR = {"scale": 2, "hidden_size": 6, "block_widths": [[6]], "branch_expansion": 2, "discriminator_width": 2}
classes, segments, upscales = ImageClassificationProcessor(), ImageSegmentationProcessor(), SRGANImageProcessor()
MODELS = {
    "cnn": (CNNForImageClassification, CNNConfig(**CNN, num_labels=3), classes),
    "timm": (CNNForImageClassification, CNNConfig(backbone="timm/test_resnet", num_labels=3), classes),
    "vit": (VisionTransformerForImageClassification, VisionTransformerConfig(**VIT), classes),
    "distilled": (
        VisionTransformerForImageClassification, VisionTransformerConfig(**VIT, distillation_token=True), classes
    ),
    "srgan": (SRGANForImageSuperResolution, SRGANConfig(**SR), upscales),
    "cnn-segmenter": (CNNForSemanticSegmentation, CNNSegmentationConfig(**CNN, num_labels=3), segments),
    "vit-segmenter": (VisionTransformerForSemanticSegmentation, VisionTransformerSegmentationConfig(**VIT), segments),
}
outputs = {}
for number, (name, (model_class, config, processor)) in enumerate(MODELS.items()):
    torch.manual_seed(number)
    model = model_class(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    outputs[name] = output(model)
    model.save_pretrained(folder / name)
    processor.save_pretrained(folder / name)
    push_to_hub(model, f"{owner}/{name}", processor=processor)
save_file(outputs, folder / "outputs.safetensors")
"""
)
WITHOUT = 'import sys\nsys.modules["hfvision"] = None\n'
READ = (
    PIXELS
    + """
try:
    import hfvision
except ImportError:
    hfvision = None
from transformers import (AutoImageProcessor, AutoModelForImageClassification, AutoModelForImageToImage,
    AutoModelForSemanticSegmentation)
for name, expected in load_file(folder / "outputs.safetensors").items():
    auto = AutoModelForImageToImage if name == "srgan" else AutoModelForImageClassification
    if "segmenter" in name:
        auto = AutoModelForSemanticSegmentation
    for source in (str(folder / name), f"{owner}/{name}"):
        model = auto.from_pretrained(source, trust_remote_code=hfvision is None)
        assert type(model).__module__.startswith("transformers_modules" if hfvision is None else "hfvision"), source
        torch.testing.assert_close(output(model), expected, atol=1e-6, rtol=1e-5, msg=source)
        AutoImageProcessor.from_pretrained(source, trust_remote_code=hfvision is None)
"""
)


def run(python: str, code: str, folder: Path, owner: str, hub: object) -> str | None:
    """Run `code`; None, or what it printed where it failed. Each run has a cache of its own."""
    with tempfile.TemporaryDirectory() as home:
        settings = {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HOME": home, "HF_HUB_DISABLE_TELEMETRY": "1"}
        paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | settings | {"PYTHONPATH": paths, "NO_PROXY": "127.0.0.1,localhost"}
        command = [python, "-c", code, str(folder), owner]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if done.returncode else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", required=True, help="the interpreter of an environment; repeat")
    pythons = parser.parse_args().python
    from hub_server import HubServer

    failures = 0
    with HubServer() as hub, tempfile.TemporaryDirectory() as base:
        for number, writer in enumerate(pythons):
            folder, owner = Path(base, str(number)), f"writer{number}"
            folder.mkdir()
            if error := run(writer, WRITE, folder, owner, hub):
                print(f"{writer} cannot save and push:\n{error}")
                failures += 1
                continue
            for reader, (way, start) in product(pythons, {"with": "", "without": WITHOUT}.items()):
                error = run(reader, start + READ, folder, owner, hub)
                print(f"{writer} -> {reader} {way} hfvision: {'failed' if error else 'equal'}", flush=True)
                if error:
                    print(error)
                    failures += 1
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
