"""The training loop, over Accelerate: one CPU, one GPU or many, by `accelerate launch`."""

import dataclasses
import math
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.data_loader import DataLoaderShard
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate
from tqdm import tqdm
from transformers import PreTrainedModel

from .checkpoint import load_model_state, model_state, restore_random_states, save_checkpoint
from .config import LoopConfig
from .ema import EMA
from .folder import training_folder
from .optimizer import check_optimizer, make_optimizer
from .options import as_plain
from .precision import choose_precision
from .progress import divergence, format_entry, mean_over_processes, show
from .resume import load_newest
from .sampler import EpochSampler, default_batch_size, drops_last

Config = TypeVar("Config", bound="LoopConfig")
LossFunction = Callable[[nn.Module, dict[str, Tensor], int], dict[str, Tensor]]


def make_accelerator(config: LoopConfig) -> Accelerator:
    """The Accelerator of a training.

    Raises:
        ValueError: for an optimizer that timm lacks, and for trackers that are not installed.
    """
    check_optimizer(config.optimizer)
    AcceleratorState._reset_state()  # another training of this process may have had another precision
    precision = choose_precision(config.mixed_precision)
    try:
        accelerator = Accelerator(
            mixed_precision=precision,
            gradient_accumulation_steps=config.accumulate,
            log_with=config.trackers or None,
            project_dir=config.out,
        )
    except ValueError as error:
        raise ValueError(f"Accelerate refuses these settings: {error}") from error
    missing = set(config.trackers) - {str(getattr(name, "value", name)) for name in accelerator.log_with}
    if missing:
        raise ValueError(f"The tracker {', '.join(missing)} is not installed: pip install {' '.join(missing)}")
    return accelerator


def learning_rate_factor(step: int, steps: int, warmup: float, schedule: str) -> float:
    """What the peak learning rate is multiplied with at `step` of `steps`, from 0: a linear rise, then the fall."""
    rise = max(1.0, warmup * steps)
    if step + 1 <= rise:
        return (step + 1) / rise
    done = (step + 1 - rise) / max(1.0, steps - rise)
    falls = {"cosine": (1 + math.cos(math.pi * done)) / 2, "triangular": 1 - done, "constant": 1.0}
    return falls[schedule]


@dataclass
class Opponent:
    """A second network that [`train`] trains against the first, batch by batch, as a GAN's discriminator.

    Args:
        model: trained in place, and left in evaluation mode. The first network's loss asks this object, not what
            Accelerate makes of it, with its weights frozen: or gradients of that loss would reach its next step.
        compute_loss: as the first network's; called after it, on the same batch.
        learning_rate: at the peak of the same schedule.
    """

    model: PreTrainedModel
    compute_loss: LossFunction
    learning_rate: float


@dataclass
class Player:
    """A prepared network, its optimizer and what it learns from."""

    net: nn.Module
    optimizer: torch.optim.Optimizer
    compute_loss: LossFunction
    learning_rate: float


def train(
    model: PreTrainedModel,
    dataset: Dataset,
    compute_loss: LossFunction,
    config: LoopConfig,
    *,
    description: str = "training",
    accelerator: Accelerator | None = None,
    sample_weights: Tensor | None = None,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    score: str | None = "validation_accuracy",
    on_best: Callable[[dict[str, Tensor], dict[str, float]], None] | None = None,
    opponent: Opponent | None = None,
    begin_epoch: Callable[[list[dict[str, float]]], bool] | None = None,
) -> list[dict[str, float]]:
    """Train `model` in place.

    With `config.out`, checkpoints are written to its folder `checkpoints`; `config.resume` resumes from the newest,
    bit-exactly, also in the middle of an epoch, provided that an item of `dataset` depends on its index and the epoch
    alone (`dataset.set_epoch(epoch)` is called where there is such a method). Ctrl-C and SIGTERM end the training
    after the current step, with a checkpoint.

    Args:
        model: its weights are changed; it is left in evaluation mode, in float32, with the best weights by `score`,
            or, without `evaluate` or by `config.keep`, the last ones; averaged ones where `config.ema` is on.
        dataset: of dicts of tensors, or with `__getitems__`, of whole batches; or iterable, already this process's
            share.
        compute_loss: from the prepared model, a batch and the epoch to `loss`, which is minimised, and other scalars
            whose means are reported.
        config: the settings.
        description: shown at the progress bar.
        accelerator: from [`make_accelerator`]; made where not given.
        sample_weights: float (N,), how often to draw each item; each once where not given.
        evaluate: called after each epoch, in evaluation mode; on all processes.
        score: which of its results is better the higher it is; None to take the newest weights for the best.
        on_best: called on the main process with the weights whenever `score` is better than before.
        opponent: trained against `model`; what it reports gets the prefix `opponent_`.
        begin_epoch: called with the history before each epoch, and before one that is gone on with; whether the epoch
            is to start from the best weights instead of the last ones.

    Returns:
        One dict an epoch: `epoch`, the means of what `compute_loss` gives, `learning_rate`, `images_per_second`,
        `seconds`, and what `evaluate` gives.

    Raises:
        FloatingPointError: if loss or gradient is not finite; the weights are those of the last step before.
        Interrupted: after a checkpoint, for a signal.
        ValueError: if there are checkpoints and `config.resume` is off, or none is usable, or they are of another
            training; if another training runs in `config.out`; for an opponent under DeepSpeed.
    """
    set_seed(config.seed)
    accelerator = accelerator or make_accelerator(config)
    if opponent is not None and accelerator.distributed_type == DistributedType.DEEPSPEED:
        raise ValueError(
            "DeepSpeed trains one network a process: choose DDP or FSDP2 for a GAN, by accelerate config or a recipe."
        )
    if config.trackers:
        accelerator.init_trackers("hfvision", {key: str(value) for key, value in as_plain(config).items()})
    folder = config.out / "checkpoints" if config.out else None
    config = with_batch_size(config, dataset, accelerator)
    loader, sampler = make_loader(dataset, config, accelerator, sample_weights)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    if config.compile:
        model.compile()
    players = {"": prepare(model, compute_loss, config.learning_rate, config, accelerator)}
    net = players[""].net
    if opponent is not None:
        players["opponent_"] = prepare(
            opponent.model, opponent.compute_loss, opponent.learning_rate, config, accelerator
        )
    networks = {prefix: (player.net, player.optimizer) for prefix, player in players.items()}
    ema = EMA(net, config.ema) if config.ema else None
    batches = config.steps_per_epoch or len(loader)
    steps = config.epochs * math.ceil(batches / config.accumulate)
    progress: dict[str, Any] = {"epoch": 0, "batch": 0, "step": 0, "history": [], "seconds": 0.0, "first_loss": None}
    sums: dict[str, float] = {}
    best: dict[str, Tensor] = {}
    random_states = None
    identity = data_identity(dataset, batches, model)

    def save(stop: int) -> None:
        """Write a checkpoint, and raise Interrupted where `stop` is the number of a signal."""
        weights = ({"ema": ema.state()} if ema else {}) | ({"best": best} if best else {})
        state = progress | {"config": as_plain(config), "data": identity}
        written = save_checkpoint(folder, accelerator, networks, state, weights, sums, config.keep_checkpoints)
        if stop:
            interruption.finish(f"Interrupted: the checkpoint {written} is written.", stop)

    last_save = time.perf_counter()
    with (
        training_folder(config) as interruption,
        tqdm(
            total=steps,
            desc=description,
            unit="step",
            mininterval=0.5,
            file=sys.stderr,
            disable=not accelerator.is_local_main_process,
        ) as bar,
        interruption.deferred(),
    ):
        loaded = load_newest(folder, accelerator, networks, as_plain(config), identity) if folder else None
        if loaded is not None:
            saved, weights, sums, random_states = loaded
            progress = {key: saved.get(key) for key in progress}
            best = weights.get("best", {})
            if ema:
                ema.load(weights["ema"])
            bar.n = bar.initial = progress["step"]
        history: list[dict[str, float]] = progress["history"]
        for epoch in range(progress["epoch"], config.epochs):
            if out_of_patience(history, score, config.patience):
                break
            go_back = begin_epoch is not None and begin_epoch(history)
            if go_back and best and progress["batch"] == 0:
                load_model_state(net, best)
                if ema:
                    ema.load(best)
                if accelerator.is_local_main_process:
                    text = f"{score.replace('_', ' ')} fell to {history[-1][score]:.4f}: back to the best weights"
                    bar.write(f"{description}: {text}", file=sys.stderr)
            begin, before = time.perf_counter(), progress["seconds"]
            for part in (sampler, dataset, loader):
                if hasattr(part, "set_epoch"):
                    part.set_epoch(epoch)
            rest = accelerator.skip_first_batches(loader, progress["batch"]) if progress["batch"] else loader
            if rest is not loader:
                rest.set_epoch(epoch)
            for player in players.values():
                player.net.train()
            latest = {score: history[-1][score]} if history and score in history[-1] else {}
            if random_states is not None and progress["batch"] == 0:
                restore_random_states(random_states)  # before the loader draws its seed from them, as it did
                random_states = None
            for batch in rest:
                if random_states is not None:
                    restore_random_states(random_states)
                    random_states = None
                factor = learning_rate_factor(progress["step"], steps, config.warmup, config.schedule)
                values = {}
                with accelerator.accumulate(*(player.net for player in players.values())):
                    for prefix, player in players.items():
                        found = player.compute_loss(player.net, batch, epoch)
                        accelerator.backward(found["loss"])
                        if accelerator.sync_gradients:
                            check_gradients(accelerator, player.net, config, found["loss"], epoch, progress["batch"])
                            for group in player.optimizer.param_groups:
                                group["lr"] = player.learning_rate * factor * group.get("lr_scale", 1.0)
                        player.optimizer.step()
                        player.optimizer.zero_grad()
                        values |= {f"{prefix}{name}": value for name, value in found.items()}
                count = len(next(iter(batch.values())))
                for name, value in values.items():
                    sums[name] = sums.get(name, 0.0) + value.item() * count
                sums["images"] = sums.get("images", 0) + count
                if progress["first_loss"] is None:
                    progress["first_loss"] = values["loss"].item()
                progress["batch"] += 1
                if accelerator.sync_gradients:
                    progress["step"] += 1
                    if ema:
                        ema.update(progress["step"])
                    progress["seconds"] = before + time.perf_counter() - begin
                    show(bar, sums, progress["seconds"], epoch, config.epochs, latest)
                    if folder and progress["batch"] < batches:
                        due, stop = agree(accelerator, last_save, config.checkpoint_minutes, interruption.number)
                        if due or stop:
                            save(stop)
                            last_save = time.perf_counter()
                if progress["batch"] == batches:
                    break
            entry = {"epoch": epoch + 1} | mean_over_processes(accelerator, sums, progress["seconds"])
            entry["learning_rate"] = config.learning_rate * factor
            if evaluate is not None:
                net.eval()
                with ema.in_place() if ema else nullcontext():
                    entry |= evaluate(net)
                    if score is None or entry[score] > max((old[score] for old in history), default=-math.inf):
                        best = model_state(net)
                        if on_best and accelerator.is_main_process:
                            on_best(best, entry)
            history.append(entry)
            accelerator.log({key: value for key, value in entry.items() if key != "epoch"}, step=epoch + 1)
            if accelerator.is_local_main_process:
                bar.write(f"{description}: {format_entry(entry, config.epochs)}", file=sys.stderr)
                if warning := divergence(history, progress["first_loss"], config.learning_rate):
                    bar.write(f"hfvision: warning: {warning}", file=sys.stderr)
            progress |= {"epoch": epoch + 1, "batch": 0, "seconds": 0.0}
            sums.clear()
            last = epoch + 1 == config.epochs or out_of_patience(history, score, config.patience)
            if folder:
                due, stop = agree(accelerator, last_save, config.checkpoint_minutes, interruption.number)
                if last or due or stop:
                    save(stop)
                    last_save = time.perf_counter()
    if best and config.keep == "best":
        load_model_state(net, best)
    elif ema:
        ema.swap()
    if config.trackers:
        accelerator.end_training()
    # prepare() has wrapped the model's own forward in autocast: give it back as it was.
    for player in players.values():
        bare = accelerator.unwrap_model(player.net, keep_fp32_wrapper=False)
        bare.to(memory_format=torch.contiguous_format).eval()
    return history


def prepare(
    model: PreTrainedModel,
    compute_loss: LossFunction,
    learning_rate: float,
    config: LoopConfig,
    accelerator: Accelerator,
) -> Player:
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = make_optimizer(
        model,
        config.optimizer,
        learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        layer_decay=config.layer_decay,
    )
    return Player(*accelerator.prepare(model, optimizer), compute_loss, learning_rate)


def with_batch_size(config: Config, dataset: Dataset, accelerator: Accelerator, **limits: int) -> Config:
    """The settings with a batch size that suits the size of the set, where none is given; see
    [`default_batch_size`]."""
    if config.batch_size is not None:
        return config
    items = None if isinstance(dataset, IterableDataset) else len(dataset)
    return dataclasses.replace(config, batch_size=default_batch_size(items, accelerator.num_processes, **limits))


def data_identity(dataset: Dataset, batches: int, model: PreTrainedModel) -> dict[str, Any]:
    """What tells the data of a training from other data, as far as a resumed training can see."""
    classes = getattr(model.config, "id2label", None) or {}
    images = getattr(dataset, "photos", getattr(dataset, "images", dataset))  # that crops are of
    sizes = {} if isinstance(dataset, IterableDataset) else {"number of training images": len(images)}
    return sizes | {"batches per epoch": batches, "classes": [str(classes[number]) for number in sorted(classes)]}


def make_loader(
    dataset: Dataset, config: LoopConfig, accelerator: Accelerator, sample_weights: Tensor | None
) -> tuple[DataLoader, EpochSampler | None]:
    common = {"batch_size": config.batch_size, "collate_fn": collate, "num_workers": config.workers}
    if isinstance(dataset, IterableDataset):
        if config.steps_per_epoch is None:
            raise ValueError("Data read as a stream has no known length: give steps_per_epoch.")
        return DataLoaderShard(dataset, device=accelerator.device, drop_last=True, **common), None
    batch = config.batch_size * accelerator.num_processes
    drop = drops_last(len(dataset), batch)
    sampler = EpochSampler(len(dataset), config.seed, sample_weights, batch=None if drop else batch)
    return accelerator.prepare(DataLoader(dataset, sampler=sampler, drop_last=drop, **common)), sampler


def collate(batch: Any) -> dict[str, Tensor]:
    return batch if isinstance(batch, dict) else default_collate(batch)


def check_gradients(
    accelerator: Accelerator, net: nn.Module, config: LoopConfig, loss: Tensor, epoch: int, batch: int
) -> None:
    """Clip, and stop where the gradient is not finite: that is so on all processes at once, unlike the loss."""
    norm = accelerator.clip_grad_norm_(net.parameters(), config.max_grad_norm or math.inf)
    if accelerator.scaler is not None and loss.isfinite():
        return  # with fp16 the scaler leaves such steps out and scales less
    if norm is not None and not math.isfinite(float(norm)):
        saved = f" The last good state is in {config.out / 'checkpoints'}." if config.out else ""
        raise FloatingPointError(
            f"The loss is {loss.item():g} and its gradient {float(norm):g} in epoch {epoch + 1}, batch {batch + 1}: "
            f"lower learning_rate={config.learning_rate:g} or set max_grad_norm.{saved}"
        )


def agree(accelerator: Accelerator, last_save: float, minutes: float, signal: int) -> tuple[bool, int]:
    """Whether it is time for a checkpoint, by the main process's clock, and the number of a signal that any process
    got, or 0; the same on all processes."""
    due = accelerator.is_main_process and time.perf_counter() - last_save >= 60 * minutes
    if accelerator.num_processes == 1:
        return due, signal
    numbers = torch.tensor([[int(due), signal]], device=accelerator.device)
    due, signal = accelerator.gather(numbers).amax(0).tolist()
    return bool(due), signal


def out_of_patience(history: list[dict[str, float]], score: str, patience: int | None) -> bool:
    if patience is None or len(history) <= patience or score not in history[-1]:
        return False
    scores = [entry[score] for entry in history]
    return scores.index(max(scores)) < len(scores) - patience
