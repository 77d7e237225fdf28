"""What the scripts that ship a checkpoint have in common."""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from hfvision.data.datasets.classification import load_image_dataset
from hfvision.data.datasets.prepare import prepare_images
from hfvision.hub.checkpoints import FOLDER
from hfvision.hub.loading import load_model
from hfvision.publishing.cards.write import card_files
from hfvision.records import write_record
from hfvision.tasks.classification.evaluate import evaluate_classifier
from hfvision.tasks.super_resolution.evaluate import evaluate_superres, find_sets
from hfvision.utils.files import write_text

SETTINGS = ("config.json", "preprocessor_config.json")
NEXT = "next: python scripts/make_cards.py"


def store_weights(run: Path, name: str) -> Path:
    """The folder of the checkpoint called `name`, with the settings of a training and its weights as fp16."""
    folder = FOLDER / name
    folder.mkdir(exist_ok=True)
    for file in SETTINGS:
        shutil.copy(run / file, folder)
    leave_code_out(folder)
    weights = load_file(run / "model.safetensors")
    halves = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in weights.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def leave_code_out(folder: Path) -> None:
    """Make a checkpoint one of the package, which brings the code of its model."""
    for file in SETTINGS:
        settings = json.loads((folder / file).read_text())
        settings = {key: value for key, value in settings.items() if key not in ("auto_map", "custom_pipelines")}
        write_text(folder / file, json.dumps(settings, indent=2) + "\n")
    for path in folder.glob("*.py"):
        path.unlink()


def training_part(run: Path, name: str, hidden: dict[str, str]) -> dict[str, Any]:
    """The `training` of a run's record, with its environment; `hidden` names what stands for paths in the command."""
    record = json.loads((run / "record.json").read_text())
    training = record["training"]
    stand_ins = hidden | {str(training["config"]["out"]): f"runs/{name}"}
    for text, stand_in in sorted(stand_ins.items(), key=lambda pair: -len(pair[0])):
        training["command"] = training["command"].replace(text, stand_in)
    training["config"] = replaced(training["config"], stand_ins)
    return training | {"environment": record["environment"]}


def replaced(value: Any, stand_ins: dict[str, str]) -> Any:
    """The plain data `value` with each string that has a stand-in replaced by it."""
    if isinstance(value, dict):
        return {key: replaced(part, stand_ins) for key, part in value.items()}
    if isinstance(value, list):
        return [replaced(part, stand_ins) for part in value]
    return stand_ins.get(value, value) if isinstance(value, str) else value


def classifier_evaluation(name: str, data: str, data_name: str) -> dict[str, Any]:
    """The `evaluation` of a shipped classifier on the test split of `data`, by one view and by flips and shifts."""
    model, image_processor = load_model(name, "image-classification")
    test = load_image_dataset(data, validation=0)["test"]
    images = prepare_images(test, image_processor)
    names = test.features["label"].names
    results = {
        tta: evaluate_classifier(model, images, image_processor, names=names, tta=tta)
        for tta in ("none", "flip_shift")
    }
    command = f"hfvision evaluate classifier {name} --data DATA --tta flip_shift"
    return {"command": command, "data": data_name, "split": "test", "results": results}


def superres_evaluation(name: str, sets: list[str]) -> dict[str, Any]:
    """The `evaluation` of a shipped upscaler on folders of photographs."""
    model, _ = load_model(name, "image-super-resolution")
    record = evaluate_superres({name: model}, find_sets(sets))
    del record["each"]
    return {"command": f"python scripts/benchmark_superres.py {name} --data DATA", **record}


def write_checkpoint(folder: Path, record: dict[str, Any]) -> None:
    """Write the record of a shipped checkpoint, and its card."""
    write_record(folder / "record.json", record)
    write_text(folder / "README.md", card_files(folder)["README.md"])


def describe_classifier(evaluation: dict[str, Any]) -> str:
    plain, views = (f"{evaluation['results'][tta]['top1']:.2%}" for tta in ("none", "flip_shift"))
    return f"{plain}, with flips and shifts {views}"


def describe_upscaler(name: str, evaluation: dict[str, Any]) -> str:
    return ", ".join(f"{label} {row['psnr']:.2f} dB" for label, row in evaluation["results"][name]["sets"].items())
