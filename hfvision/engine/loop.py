"""The training loop, over Accelerate: one CPU, one GPU or many, by `accelerate launch`."""

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.data_loader import DataLoaderShard
from accelerate.utils import DistributedType, set_seed
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..utils.console import logger, progress_bar
from .accelerator import make_accelerator
from .checkpoint import load_model_state, model_state, restore_random_states, save_checkpoint
from .config import LoopConfig
from .ema import EMA
from .folder import training_folder
from .interrupt import Interruption
from .loader import data_identity, make_loader, with_batch_size
from .network import Network, PreparedNetwork
from .optimizer import GradientCheck, learning_rate_factor
from .options import as_plain
from .progress import History, RunningMeans, divergence, format_entry, out_of_patience
from .resume import load_newest


@dataclass(frozen=True)
class Validation:
    """How the network is measured after each epoch, and what is done with the best weights.

    Attributes:
        evaluate: from the prepared network, in evaluation mode, to metrics; called on all processes.
        score: the metric that is better the higher it is; None to take the newest weights for the best.
        on_best: called on the main process with weights and metrics whenever the score is better than before.
    """

    evaluate: Callable[[nn.Module], dict[str, float]]
    score: str | None = "validation_accuracy"
    on_best: Callable[[dict[str, Tensor], dict[str, float]], None] | None = None


@dataclass
class Progress:
    """Where a training is, as its checkpoints say in `state.json`: `batch` and `seconds` are of the current epoch."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    first_loss: float | None = None
    history: History = field(default_factory=list)


class Callback:
    """What a [`Trainer`] calls at the ends of its epochs, on all processes."""

    def on_epoch_begin(self, trainer: "Trainer") -> None:
        """Before an epoch, and before the rest of one that was interrupted."""

    def on_epoch_end(self, trainer: "Trainer") -> None:
        """After the validation; the metrics are the last of `trainer.progress.history`."""


class EpochLog(Callback):
    """Reports the metrics to the trackers and, in one line, on stderr, with a warning where the loss has exploded."""

    def on_epoch_end(self, trainer: "Trainer") -> None:
        progress, config = trainer.progress, trainer.config
        entry = progress.history[-1]
        metrics = {name: value for name, value in entry.items() if name != "epoch"}
        trainer.accelerator.log(metrics, step=int(entry["epoch"]))
        trainer.write(f"{trainer.name}: {format_entry(entry, config.epochs)}")
        if warning := divergence(progress.history, progress.first_loss, config.learning_rate):
            trainer.write(warning, logging.WARNING)


class RestoreBest(Callback):
    """Starts an epoch from the best weights so far instead of the last ones, as after a collapse.

    Args:
        collapsed: from the history of the epochs to whether to do so.
    """

    def __init__(self, collapsed: Callable[[History], bool]):
        self.collapsed = collapsed

    def on_epoch_begin(self, trainer: "Trainer") -> None:
        history = trainer.progress.history
        if not self.collapsed(history) or not trainer.best or trainer.progress.batch > 0:
            return
        load_model_state(trainer.net, trainer.best)
        if trainer.ema:
            trainer.ema.load(trainer.best)
        score = trainer.validation.score if trainer.validation else None
        fell = f"{score.replace('_', ' ')} fell to {history[-1][score]:.4f}: " if score else ""
        trainer.write(f"{trainer.name}: {fell}back to the best weights")


class Trainer:
    """Trains a network.

    With `config.out`, checkpoints are written to its folder `checkpoints`; `config.resume` resumes from the newest,
    bit-exactly, also in the middle of an epoch, provided that an item of `dataset` depends on its index and the epoch
    alone (`dataset.set_epoch(epoch)` is called where there is such a method).

    Args:
        network: what is trained. It ends with the best weights by `validation.score`, or, without `validation` or
            with `config.keep` "last", with the last ones; the averaged ones where `config.ema` is on.
        dataset: of dicts of tensors, or with `__getitems__`, of whole batches; or iterable, already this process's
            share.
        config: the settings.
        accelerator: from [`make_accelerator`]; made where not given.
        sample_weights: float (N,), how often to draw each item; each once where not given.
        validation: after each epoch.
        discriminator: a second network, trained on each batch after the first; its scalars and files get the prefix
            `discriminator_`. The loss of the first calls `discriminator.model`, not what Accelerate makes of it, with
            its weights frozen: or gradients of that loss would reach its next step.
        callbacks: called at the ends of the epochs.

    Raises:
        ValueError: for a discriminator under DeepSpeed, or iterable data without `steps_per_epoch`.
    """

    def __init__(
        self,
        network: Network,
        dataset: Dataset,
        config: LoopConfig,
        *,
        accelerator: Accelerator | None = None,
        sample_weights: Tensor | None = None,
        validation: Validation | None = None,
        discriminator: Network | None = None,
        callbacks: Sequence[Callback] = (),
    ):
        set_seed(config.seed)
        self.accelerator = accelerator = accelerator or make_accelerator(config)
        if discriminator is not None and accelerator.distributed_type == DistributedType.DEEPSPEED:
            raise ValueError("DeepSpeed trains one network only: use DDP or FSDP2 for a GAN (accelerate config).")
        if config.trackers:
            accelerator.init_trackers("hfvision", {key: str(value) for key, value in as_plain(config).items()})
        self.config = config = with_batch_size(config, dataset, accelerator)
        self.name = config.out.name if config.out else "training"
        self.folder = config.out / "checkpoints" if config.out else None
        self.dataset, self.validation = dataset, validation
        self.callbacks = [*callbacks, EpochLog()]
        self.loader, self.sampler = make_loader(dataset, config, accelerator, sample_weights)
        if config.gradient_checkpointing:
            network.model.gradient_checkpointing_enable()
        if config.compile:
            network.model.compile()
        # By the prefix of their scalars and files.
        self.networks = {"": PreparedNetwork(network, config, accelerator)}
        if discriminator is not None:
            self.networks["discriminator_"] = PreparedNetwork(discriminator, config, accelerator)
        self.net = self.networks[""].net
        self.trained = {prefix: (network.net, network.optimizer) for prefix, network in self.networks.items()}
        self.ema = EMA(self.net, config.ema) if config.ema else None
        self.best: dict[str, Tensor] = {}
        self.batches_per_epoch = config.steps_per_epoch or len(self.loader)
        self.steps = config.epochs * math.ceil(self.batches_per_epoch / config.accumulate)
        self.identity = data_identity(dataset, self.batches_per_epoch, network.model)
        self.progress = Progress()
        self.means = RunningMeans(accelerator.device)
        self.gradients = GradientCheck(config, accelerator)
        self.learning_rate = 0.0
        self.random_states: dict[str, Tensor] | None = None
        self.last_checkpoint = time.perf_counter()
        self.interruption = Interruption("")
        self.bar = progress_bar(disable=True)

    def fit(self) -> History:
        """Train, from the newest checkpoint where there is one. Ctrl-C and SIGTERM end it after the current step.

        Returns:
            One dict an epoch: `epoch`, the means of what the losses give, `learning_rate`, `images_per_second`,
            `seconds`, and the metrics of the validation.

        Raises:
            FloatingPointError: if a gradient is not finite; see [`GradientCheck`].
            Interrupted: after a checkpoint, for a signal.
            OSError: if a checkpoint cannot be written.
            ValueError: if there are checkpoints and `config.resume` is off, or none is usable, or they are of another
                training; if another training runs in `config.out`.
        """
        with (
            training_folder(self.config) as self.interruption,
            self.step_bar() as self.bar,
            self.interruption.deferred(),
        ):
            self.resume()
            while not self.is_finished():
                self.fit_epoch()
                self.evaluate_epoch()
                self.checkpoint_if_due(self.is_finished())
        self.finish()
        return self.progress.history

    def is_finished(self) -> bool:
        score = self.validation.score if self.validation else None
        patience = out_of_patience(self.progress.history, score, self.config.patience)
        return patience or self.progress.epoch >= self.config.epochs

    def fit_epoch(self) -> None:
        """Train on one epoch, or on what is left of one that was interrupted."""
        progress = self.progress
        for callback in self.callbacks:
            callback.on_epoch_begin(self)
        start = time.perf_counter() - progress.seconds
        for network in self.networks.values():
            network.net.train()
        for batch in self.batches():
            values = self.fit_batch(batch)
            self.means.update(values, len(next(iter(batch.values()))))
            if progress.first_loss is None:
                progress.first_loss = values["loss"].item()
            progress.batch += 1
            if self.accelerator.sync_gradients:
                progress.step += 1
                if self.ema:
                    self.ema.update(progress.step)
                progress.seconds = time.perf_counter() - start
                if self.bar.update():
                    self.show_means()
                if progress.batch < self.batches_per_epoch:
                    self.checkpoint_if_due()
        self.gradients.check()  # which waits for a GPU, so that the time is that of the whole epoch
        progress.seconds = time.perf_counter() - start
        self.show_means()

    def batches(self) -> Iterator[dict[str, Tensor]]:
        """The batches of this epoch that are left. A resumed training continues with the random states it had."""
        progress, loader = self.progress, self.loader
        for part in (self.sampler, self.dataset, loader):
            if hasattr(part, "set_epoch"):
                part.set_epoch(progress.epoch)  # pyright: ignore[reportAttributeAccessIssue,reportOptionalMemberAccess]
        if progress.batch:
            loader = cast(DataLoaderShard, self.accelerator.skip_first_batches(loader, progress.batch))
            loader.set_epoch(progress.epoch)
        else:
            self.restore_random_states()
        # As a loader without a generator draws at its start: what is computed depends on neither workers nor version.
        torch.empty((), dtype=torch.int64).random_()
        for batch in loader:
            self.restore_random_states()
            yield cast(dict[str, Tensor], batch)
            if progress.batch == self.batches_per_epoch:
                return

    def fit_batch(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Train each network on a batch; once enough gradients are accumulated, make a step of its optimizer.

        Returns:
            The scalars of the losses.
        """
        progress, config, accelerator = self.progress, self.config, self.accelerator
        factor = learning_rate_factor(progress.step, self.steps, config.warmup, config.schedule)
        self.learning_rate = config.learning_rate * factor
        values = {}
        with accelerator.accumulate(*(network.net for network in self.networks.values())):
            for prefix, network in self.networks.items():
                found = network.compute_loss(network.net, batch, progress.epoch)
                accelerator.backward(found["loss"])
                if accelerator.sync_gradients:
                    self.gradients.clip(network.net, found["loss"], progress.epoch, progress.batch)
                    network.set_learning_rate(factor)
                network.optimizer.step()
                network.optimizer.zero_grad()
                values |= {f"{prefix}{name}": value.detach() for name, value in found.items()}
        return values

    def evaluate_epoch(self) -> None:
        """Add the metrics of the epoch to the history, and keep the weights if they are the best."""
        progress = self.progress
        means, images = self.means.gather(self.accelerator)
        entry: dict[str, float] = {"epoch": progress.epoch + 1} | means
        entry |= {"images_per_second": images / progress.seconds, "seconds": progress.seconds}
        entry["learning_rate"] = self.learning_rate
        if self.validation is not None:
            score, on_best = self.validation.score, self.validation.on_best
            self.net.eval()
            with self.ema.in_place() if self.ema else nullcontext():
                entry |= self.validation.evaluate(self.net)
                if score is None or entry[score] > max((old[score] for old in progress.history), default=-math.inf):
                    self.best = model_state(self.net)
                    if on_best and self.accelerator.is_main_process:
                        on_best(self.best, entry)
        progress.history.append(entry)
        progress.epoch, progress.batch, progress.seconds = progress.epoch + 1, 0, 0.0
        self.means.load({})
        for callback in self.callbacks:
            callback.on_epoch_end(self)

    def resume(self) -> None:
        """Continue from the newest usable checkpoint, if there is one."""
        if self.folder is None:
            return
        loaded = load_newest(self.folder, self.accelerator, self.trained, as_plain(self.config), self.identity)
        if loaded is None:
            return
        state, weights, sums, self.random_states = loaded
        fields: dict[str, Any] = {each.name: state.get(each.name) for each in dataclasses.fields(Progress)}
        self.progress = Progress(**fields)
        self.means.load(sums)
        self.best = weights.get("best", {})
        if self.ema:
            self.ema.load(weights["ema"])
        self.bar.n = self.bar.initial = self.progress.step

    def checkpoint_if_due(self, now: bool = False) -> None:
        """Write a checkpoint if it is time for one, and for a signal; raise Interrupted after the latter."""
        if self.folder is None:
            return
        due, stop = self.agree()
        if now or due or stop:
            written = self.checkpoint()
            if stop:
                self.interruption.finish(f"Interrupted: the checkpoint {written} is written.", stop)

    def agree(self) -> tuple[bool, int]:
        """Whether a checkpoint is due, by the main process's clock, and the number of a signal that any process got,
        or 0; the same on all processes."""
        accelerator, signal = self.accelerator, self.interruption.number
        seconds = time.perf_counter() - self.last_checkpoint
        due = accelerator.is_main_process and seconds >= 60 * self.config.checkpoint_minutes
        if accelerator.num_processes == 1:
            return due, signal
        numbers = torch.tensor([[int(due), signal]], device=accelerator.device)
        due, signal = accelerator.gather(numbers).amax(0).tolist()  # pyright: ignore[reportAttributeAccessIssue]
        return bool(due), signal

    def checkpoint(self) -> Path:
        """Write a checkpoint; called on all processes. Returns its path."""
        assert self.folder is not None
        self.gradients.check()
        weights = ({"ema": self.ema.state()} if self.ema else {}) | ({"best": self.best} if self.best else {})
        state = dataclasses.asdict(self.progress) | {"config": as_plain(self.config), "data": self.identity}
        keep = self.config.keep_checkpoints
        path = save_checkpoint(self.folder, self.accelerator, self.trained, state, weights, self.means.sums(), keep)
        self.last_checkpoint = time.perf_counter()
        return path

    def finish(self) -> None:
        """Leave the weights that come out in the models, and the models as they were given."""
        if self.best and self.config.keep == "best":
            load_model_state(self.net, self.best)
        elif self.ema:
            self.ema.swap()
        if self.config.trackers:
            self.accelerator.end_training()
        for network in self.networks.values():
            # prepare() has wrapped the model's own forward in autocast.
            model = self.accelerator.unwrap_model(network.net, keep_fp32_wrapper=False)
            model.to(memory_format=torch.contiguous_format).eval()

    def restore_random_states(self) -> None:
        """Those of the checkpoint, once."""
        if self.random_states is not None:
            restore_random_states(self.random_states)
            self.random_states = None

    def step_bar(self) -> progress_bar:
        """Of the steps, on stderr."""
        hidden = not self.accelerator.is_local_main_process
        return progress_bar(total=self.steps, desc=self.name, unit="step", mininterval=0.5, disable=hidden)

    def show_means(self) -> None:
        """Show the means of the epoch so far beside the bar; they are read only when it is drawn."""
        if self.bar.disable or not self.means.images:
            return
        progress, score = self.progress, self.validation.score if self.validation else None
        shown = self.means.means()
        if score and progress.history and score in progress.history[-1]:
            shown[score] = progress.history[-1][score]
        postfix = {"epoch": f"{progress.epoch + 1}/{self.config.epochs}"}
        postfix |= {name: f"{value:.4f}" for name, value in shown.items()}
        speed = {"images/s": f"{self.means.images / progress.seconds:.0f}"}
        self.bar.set_postfix(postfix | speed, refresh=False)

    def write(self, text: str, level: int = logging.INFO) -> None:
        """Log a line, on the main process of a machine."""
        if self.accelerator.is_local_main_process:
            logger.log(level, text)
