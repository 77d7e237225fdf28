"""Memory and time of the ImageNet recipes, computed: parameters, optimizer and activations are measured on this CPU.

    python scripts/estimate_imagenet.py --tflops 989 --reading 150

Takes a minute. Weights, gradients and the optimizer's state are float32, as under autocast; the activations that wait
for the backward pass are what four images under bf16 autocast keep more than two, scaled to the batch; GPUs keep some
operations of a ViT in float32 that a CPU does in bf16.
Training takes three times the multiply-adds of a forward pass, two operations each. `--tflops` is the GPU's peak in
bf16 from its data sheet (312: A100; 989: H100) and `--utilisation` what a training reaches of it, which is an
assumption; so is `--reading`, the JPEG files that one worker decodes and resizes a second, which is often what limits.
The most memory in use is somewhat above what is printed: workspaces, communication, fragments.
"""

import argparse
from pathlib import Path

import timm.optim
import torch
from torch import Tensor, nn

from hfvision.engine.options import parse_options
from hfvision.inspection.layers import summarize
from hfvision.tasks.classification.config import ClassifierTrainingConfig
from hfvision.tasks.classification.start import load_start
from hfvision.utils.markdown import markdown_table

RECIPES = Path(__file__).parent / "recipes"
IMAGES, CLASSES, GPUS = 1_281_167, 1000, 8


def saved_bytes(model: nn.Module, pixel_values: Tensor) -> int:
    """What one forward pass under bf16 autocast keeps for its backward pass, weights excepted."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16),
    ):
        logits = model(pixel_values=pixel_values).logits
    size = sum(storage.nbytes() for storage in kept.values())
    del logits
    return size


def optimizer_bytes(model: nn.Module, config: ClassifierTrainingConfig) -> int:
    """The optimizer's state after a step."""
    optimizer = timm.optim.create_optimizer_v2(model, config.optimizer, lr=0.0, weight_decay=config.weight_decay)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    return sum(value.numel() * value.element_size() for value in states)


def requirements(recipe: Path) -> tuple[ClassifierTrainingConfig, dict[str, float]]:
    """A recipe, and of its model `parameters`, `multiply_adds` an image, bytes of the optimizer's `state`, of all that
    is `fixed` (weights, also in bf16, gradients, state, average), and of one image's `activations`."""
    config = parse_options(ClassifierTrainingConfig, ["--config", str(recipe)], recipe.name, "")
    names = [str(number) for number in range(CLASSES)]
    model, _ = load_start(config.model, names=names, image_size=config.image_size, overrides=config.overrides())
    side = config.image_size or model.config.image_size
    multiply_adds = summarize(model, torch.zeros(1, 3, side, side)).multiply_adds
    two, four = (saved_bytes(model.train(), torch.randn(count, 3, side, side)) for count in (2, 4))
    parameters = model.num_parameters()
    state = optimizer_bytes(model, config)
    fixed = parameters * 4 * (3 if config.ema else 2) + parameters * 2 + state
    found = {"parameters": parameters, "multiply_adds": multiply_adds, "state": state, "fixed": fixed}
    return config, found | {"activations": (four - two) / 2}


def estimate(recipe: Path, tflops: float, utilisation: float, reading: float) -> dict[str, str]:
    config, needs = requirements(recipe)
    activations = config.batch_size * needs["activations"]
    rate = tflops * 1e12 * utilisation / (6 * needs["multiply_adds"])
    read = min(rate, config.workers * reading)
    seen = IMAGES * config.epochs / GPUS / 3600
    return {
        "parameters, millions": f"{needs['parameters'] / 1e6:.1f}",
        "multiply-adds an image, billions": f"{needs['multiply_adds'] / 1e9:.2f}",
        f"{config.optimizer}'s state, MB": f"{needs['state'] / 1e6:.0f}",
        "weights (also in bf16), gradients, state, average, GB": f"{needs['fixed'] / 1e9:.2f}",
        "activations of one image, MB": f"{needs['activations'] / 1e6:.1f}",
        f"activations of a batch of {config.batch_size}, GB": f"{activations / 1e9:.1f}",
        "together on each GPU, GB": f"{(needs['fixed'] + activations) / 1e9:.1f}",
        "images a second and GPU": f"{rate:,.0f}",
        f"images a second to read for {GPUS} GPUs": f"{GPUS * rate:,.0f}",
        f"hours for {config.epochs} epochs": f"{seen / rate:.1f}",
        f"the same with {config.workers} workers a GPU that read {reading:g} images a second": f"{seen / read:.1f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--tflops", type=float, default=312, help="peak of one GPU in bf16 (default 312)")
    parser.add_argument("--utilisation", type=float, default=0.2, help="part of it that is reached (default 0.2)")
    parser.add_argument("--reading", type=float, default=100, help="images a second and worker (default 100)")
    args = parser.parse_args()
    for recipe in sorted(RECIPES.glob("gpu8_imagenet_*.yaml")):
        figures = estimate(recipe, args.tflops, args.utilisation, args.reading)
        print(markdown_table([recipe.stem, "estimate"], list(figures.items())), end="\n\n")


if __name__ == "__main__":
    main()
