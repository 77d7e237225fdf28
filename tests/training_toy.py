"""A training of a second, for the tests: in this process, or as a program that they kill or start several times."""

import contextlib
import dataclasses
import json
import signal
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from PIL import Image
from safetensors.torch import save_file
from torch.distributed.fsdp import fully_shard
from torch.utils.data import Dataset
from transformers import HfArgumentParser

from hfvision import (
    CNNConfig,
    CNNForImageClassification,
    SRGANConfig,
    SRGANDiscriminator,
    SRGANForImageSuperResolution,
    SuperResTrainingConfig,
)
from hfvision.data.transforms.crops import RandomCrops
from hfvision.data.transforms.normalize import Normalize
from hfvision.engine.checkpoint import checkpoints, load_checkpoint, model_state, save_checkpoint
from hfvision.engine.config import LoopConfig
from hfvision.engine.ema import EMA
from hfvision.engine.interrupt import Interrupted
from hfvision.engine.loop import RestoreBest, Trainer, Validation
from hfvision.engine.network import Network
from hfvision.tasks.classification.config import ClassifierTrainingConfig
from hfvision.tasks.classification.train import ClassifierLoss, make_adversary
from hfvision.tasks.super_resolution.gan import DiscriminatorLoss
from hfvision.tasks.super_resolution.losses import SuperResolutionLoss


class BrightOrDark(Dataset):
    """Noise around one of two grey levels; the label says which."""

    def __init__(self, bad_item: int | None = None):
        noise = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        self.labels = torch.arange(64) % 2
        self.pixel_values = noise + self.labels.view(-1, 1, 1, 1) * 2 - 1
        if bad_item is not None:
            self.pixel_values[bad_item] = torch.nan

    def __len__(self):
        return 64

    def __getitem__(self, index):
        return {"pixel_values": self.pixel_values[index], "labels": self.labels[index]}


def fresh_model(dropout: float = 0.0, norm: str = "batch") -> CNNForImageClassification:
    torch.manual_seed(0)
    config = CNNConfig(
        stage_widths=[[[8]]],
        stage_strides=[2],
        downsample="pool_last",
        num_labels=2,
        classifier_dropout=dropout,
        norm=norm,
    )
    return CNNForImageClassification(config)


def run_toy(
    model, config: LoopConfig, *, data=None, stop_at=None, at_batch=None, evaluate=None, on_best=None, **options
):
    """Train; `stop_at` raises KeyboardInterrupt before that batch, `at_batch` is called with the number of each."""
    data = data or BrightOrDark()
    done = 0

    def compute_loss(net, batch, epoch):
        nonlocal done
        if done == stop_at:
            raise KeyboardInterrupt
        if at_batch:
            at_batch(done)
        done += 1
        return {"loss": net(**batch).loss, "bright": batch["labels"].float().mean()}

    def accuracy(net):
        clean = BrightOrDark()
        with torch.no_grad():
            right = net(pixel_values=clean.pixel_values).logits.argmax(-1) == clean.labels
        return {"validation_accuracy": right.float().mean().item()}

    validation = Validation(evaluate or accuracy, on_best=on_best)
    return Trainer(Network(model, compute_loss), data, config, validation=validation, **options).fit()


# Of L2, since rounding may turn the sign of a small gradient, and with it a whole step of an attack for L∞.
ATTACKED = {"norm": "l2", "epsilon": "1.0", "awp": 0.01, "optimizer": "sgd"}


class BrightOrDarkImages(BrightOrDark):
    """The same as 8-bit images, as trainings of classifiers read them."""

    def __getitem__(self, index):
        image = (self.pixel_values[index] * 30 + 128).clamp(0, 255).byte()
        return {"images": image, "labels": self.labels[index], "index": torch.tensor(index)}


def attack_toy(method: str, batch_size: int, normalization: str = "none", **settings) -> dict[str, torch.Tensor]:
    """The weights after a training on attacked images."""
    options = {"mixed_precision": "no", "augment": "none", "attack_steps": 3, "epochs": 2, "learning_rate": 0.02}
    config = ClassifierTrainingConfig(data="toy", adversarial=method, batch_size=batch_size, **(options | settings))
    normalize = Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    compute_loss = ClassifierLoss(config, normalize, 2, adversary=make_adversary(config, normalize))
    model = fresh_model(norm=normalization)
    shared = {field.name: getattr(config, field.name) for field in dataclasses.fields(LoopConfig)}
    loop = LoopConfig(**shared | {"out": settings.get("out")})
    Trainer(Network(model, compute_loss), BrightOrDarkImages(), loop).fit()
    return model.state_dict()


def gan_toy(batch_size: int) -> dict[str, torch.Tensor]:
    """The weights of generator and discriminator after a short training of both."""
    torch.manual_seed(0)
    shape = SRGANConfig.from_preset("fast-tiny", scale=2, hidden_size=8, block_widths=[[8]], discriminator_width=4)
    generator, discriminator = SRGANForImageSuperResolution(shape), SRGANDiscriminator(shape)
    noise = torch.randint(256, (40, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    discriminator_loss = DiscriminatorLoss("vanilla")
    config = SuperResTrainingConfig(data=["toy"], gan="vanilla", gan_weight=0.1)
    loss = SuperResolutionLoss(config, 2, contextlib.nullcontext, None, None, discriminator, discriminator_loss)
    options = {"mixed_precision": "no", "optimizer": "momentum", "weight_decay": 0.0, "epochs": 2, "warmup": 0.0}
    loop = LoopConfig(batch_size=batch_size, learning_rate=0.5, **options)
    crops = RandomCrops([Image.fromarray(noise.numpy())], 16, 32)
    second = Network(discriminator, discriminator_loss, 0.1)
    Trainer(Network(generator, loss), crops, loop, discriminator=second).fit()
    return generator.state_dict() | discriminator.state_dict()


def train_on_two_processes(folder: Path) -> dict[str, bool]:
    """Train with half the batch on each process, and once more stopped and resumed; write the weights of the first."""
    settings = {"epochs": 2, "batch_size": 4, "mixed_precision": "no", "learning_rate": 0.02, "ema": 0.5}
    model = fresh_model(norm="none")
    history = run_toy(model, LoopConfig(**settings))
    state = PartialState()
    back = run_toy(
        fresh_model(norm="none"), LoopConfig(**settings), callbacks=[RestoreBest(lambda history: len(history) == 1)]
    )
    attacked = attack_toy("mart", batch_size=4, **ATTACKED)
    gan = gan_toy(batch_size=4)
    if state.is_main_process:
        save_file(model.state_dict(), folder / "two.safetensors")
        save_file(attacked, folder / "two_attacked.safetensors")
        save_file(gan, folder / "two_gan.safetensors")
    with contextlib.suppress(KeyboardInterrupt):
        config = LoopConfig(out=folder / "run", checkpoint_minutes=0, **settings)
        run_toy(fresh_model(norm="none"), config, stop_at=11)
    state.wait_for_everyone()
    resumed = fresh_model(norm="none")
    config = LoopConfig(out=folder / "run", checkpoint_minutes=0, resume=True, **settings)
    again = run_toy(resumed, config)
    pairs = zip(model.state_dict().values(), resumed.state_dict().values(), strict=True)
    stopped = stop_one_of_two(LoopConfig(out=folder / "stopped", **settings))
    return {
        "stopped_together": stopped is not None and stopped["number"] == signal.SIGTERM,
        "same_weights_after_the_stop": stopped is not None and same(model.state_dict(), stopped["weights"]),
        "two_processes": state.num_processes == 2,
        "went_on_from_the_best": len(back) == 2,
        "resumed_in_the_middle": len(checkpoints(folder / "run" / "checkpoints")) == 2,
        "same_weights": all(torch.equal(a, b) for a, b in pairs),
        "same_losses": [entry["loss"] for entry in history] == [entry["loss"] for entry in again],
    }


def stop_one_of_two(config: LoopConfig) -> dict | None:
    """Train, with SIGTERM to the second process alone in the middle of an epoch, and resume."""

    def at_batch(number: int) -> None:
        if number == 5 and not PartialState().is_main_process:
            signal.raise_signal(signal.SIGTERM)

    try:
        run_toy(fresh_model(norm="none"), config, at_batch=at_batch)
    except Interrupted as error:
        PartialState().wait_for_everyone()
        resumed = fresh_model(norm="none")
        run_toy(resumed, dataclasses.replace(config, resume=True))
        return {"number": error.number, "weights": resumed.state_dict()}
    return None


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def checkpoint_shards(folder: Path) -> dict[str, bool]:
    """Write a checkpoint of a model in shards, train on, load it again, train on again."""
    accelerator = Accelerator()
    model = fresh_model()
    for stage in model.cnn.encoder.stages:
        fully_shard(stage)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    ema = EMA(model, 0.9)
    batch = {"pixel_values": BrightOrDark().pixel_values, "labels": BrightOrDark().labels}

    def step(number: int) -> None:
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update(number)

    step(1)
    save_checkpoint(folder, accelerator, {"": (model, optimizer)}, {"step": 1}, {"ema": ema.state()}, {}, keep=1)
    step(2)
    expected, expected_ema = model_state(model), ema.state()
    step(3)
    _, weights, _, _ = load_checkpoint(checkpoints(folder)[-1], accelerator, {"": (model, optimizer)})
    ema.load(weights["ema"])
    step(2)
    return {
        "in_shards": all(hasattr(parameter, "full_tensor") for parameter in model.parameters()),
        "same_weights": all(torch.equal(expected[name], value) for name, value in model_state(model).items()),
        "same_average": all(torch.equal(expected_ema[name], value) for name, value in ema.state().items()),
    }


def main() -> None:
    parser = HfArgumentParser(LoopConfig)
    parser.add_argument("--save", type=Path, help="one process: train and write the weights")
    parser.add_argument("--two", type=Path, help="two processes: do everything, and write what came out")
    config, rest = parser.parse_args_into_dataclasses()
    if rest.two is not None:
        results = {"trained": train_on_two_processes(rest.two), "shards": checkpoint_shards(rest.two / "shards")}
        if PartialState().is_main_process:
            (rest.two / "results.json").write_text(json.dumps(results))
        PartialState().destroy_process_group()
    else:
        model = fresh_model(dropout=0.3)
        run_toy(model, config)
        save_file(model.state_dict(), rest.save)


if __name__ == "__main__":
    main()
