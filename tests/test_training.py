"""The training loop: it learns, repeats itself, goes on to the bit, and stops before it spoils a model."""

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_toy import ATTACKED, BrightOrDark, attack_toy, fresh_model, gan_toy, run_toy

from hfvision.engine.accelerator import make_accelerator
from hfvision.engine.checkpoint import checkpoints
from hfvision.engine.config import LoopConfig
from hfvision.engine.loop import RestoreBest
from hfvision.engine.optimizer import learning_rate_factor, make_optimizer
from hfvision.engine.progress import RunningMeans

TOY = Path(__file__).with_name("training_toy.py")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1", "CUDA_VISIBLE_DEVICES": ""}


def same_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def losses(history: list[dict[str, float]]) -> list[float]:
    return [entry["loss"] for entry in history]


def test_it_learns_and_leaves_a_float32_model_in_evaluation_mode():
    model, data = fresh_model(), BrightOrDark()
    history = run_toy(model, LoopConfig(epochs=6, batch_size=16, learning_rate=0.02))
    assert [entry["epoch"] for entry in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert history[-1]["validation_accuracy"] > 0.95
    assert not model.training
    with torch.no_grad():
        logits = model(data.pixel_values).logits
    assert logits.dtype == model.dtype == torch.float32
    assert (logits.argmax(-1) == data.labels).float().mean() > 0.95


def test_the_seed_decides_everything():
    weights = []
    for seed in (3, 3, 4):
        model = fresh_model()
        run_toy(model, LoopConfig(epochs=2, batch_size=16, seed=seed))
        weights.append(model.classifier.weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "nmuon", "lamb"])
@pytest.mark.parametrize("changes", [{}, {"ema": 0.9, "accumulate": 2, "max_grad_norm": 1.0}], ids=["plain", "all"])
def test_resume_in_the_middle_of_an_epoch_is_exact_to_the_bit(tmp_path, optimizer, changes):
    settings = {"epochs": 3, "batch_size": 8, "optimizer": optimizer, "checkpoint_minutes": 0, **changes}
    uninterrupted = fresh_model(dropout=0.3)
    history = run_toy(uninterrupted, LoopConfig(**settings))
    with pytest.raises(KeyboardInterrupt):
        run_toy(fresh_model(dropout=0.3), LoopConfig(out=tmp_path, **settings), stop_at=13)
    assert len(checkpoints(tmp_path / "checkpoints")) == 2, "older ones are removed"
    state = json.loads((checkpoints(tmp_path / "checkpoints")[-1] / "state.json").read_text())
    assert (state["epoch"], state["batch"]) == (1, 4 if changes else 5)
    resumed = fresh_model(dropout=0.3)
    torch.rand(7)
    again = run_toy(resumed, LoopConfig(out=tmp_path, resume=True, **settings))
    assert losses(again) == losses(history)
    assert same_weights(uninterrupted.state_dict(), resumed.state_dict())


@pytest.mark.parametrize("bf16", [True, False])
def test_muon_orthogonalizes_in_bf16_only_where_the_cpu_computes_in_it(monkeypatch, bf16):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bf16})
    layer = torch.nn.Linear(24, 16, bias=False)
    torch.nn.init.zeros_(layer.weight)
    layer.weight.grad = torch.randn(16, 24, generator=torch.Generator().manual_seed(0))
    make_optimizer(layer, "muon", 0.1, momentum=0.0, weight_decay=0.0).step()
    singular = torch.linalg.svdvals(layer.weight.detach().double())
    u, _, v = torch.linalg.svd(layer.weight.grad.double(), full_matrices=False)
    left = (u.T @ layer.weight.detach().double() @ v.T).fill_diagonal_(0).abs().max() / singular.max()
    assert (left > 1e-4) if bf16 else (left < 1e-5), "singular vectors stay, but for rounding"


def test_no_file_of_a_checkpoint_is_a_pickle(tmp_path):
    run_toy(fresh_model(), LoopConfig(epochs=1, batch_size=16, out=tmp_path, ema=0.9))
    (folder,) = checkpoints(tmp_path / "checkpoints")
    names = ["best", "ema", "model", "optimizer", "process-0"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [f"{n}.safetensors" for n in names] + ["state.json"]
    )
    for name in names:
        assert load_file(folder / f"{name}.safetensors")


def test_killed_at_any_moment_it_goes_on_to_the_same_weights(tmp_path):
    command = [sys.executable, TOY, "--epochs", "4", "--batch_size", "4", "--ema", "0.9", "--checkpoint_minutes", "0"]
    never_killed = [*command, "--out", tmp_path / "whole", "--save", tmp_path / "expected"]
    subprocess.run(never_killed, env=ENVIRONMENT, check=True, capture_output=True)
    command += ["--out", tmp_path, "--resume", "--save", tmp_path / "final"]
    for step in (10, 35):
        process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
        wait_for_step(tmp_path, step, process)
        time.sleep(step / 5000)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True)
    assert same_weights(load_file(tmp_path / "expected"), load_file(tmp_path / "final"))
    assert not list(tmp_path.glob("checkpoints/.partial*"))


def wait_for_step(out: Path, step: int, process: subprocess.Popen) -> None:
    end = time.monotonic() + 300
    while not any(int(path.name.removeprefix("step-")) >= step for path in checkpoints(out / "checkpoints")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def on_two_processes(tmp_path_factory) -> Path:
    """What `training_toy.py --two` leaves: one start of two processes for all the tests that need them."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", TOY]
    done = subprocess.run(
        [*command, "--two", folder], env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_two_processes_train_like_one_with_twice_the_batch(on_two_processes):
    one, start = fresh_model(norm="none"), fresh_model(norm="none").state_dict()
    settings = {"epochs": 2, "batch_size": 8, "mixed_precision": "no", "learning_rate": 0.02, "ema": 0.5}
    run_toy(one, LoopConfig(**settings))
    attacked = attack_toy("mart", batch_size=8, **ATTACKED)
    for file, expected in (("two", one.state_dict()), ("two_attacked", attacked)):
        two = load_file(on_two_processes / f"{file}.safetensors")
        for name, weights in expected.items():
            assert (two[name] - weights).abs().max() < 1e-5, name
            assert (weights - start[name]).abs().max() > 1e-3, name


def test_a_gan_trains_on_two_processes_like_on_one_with_twice_the_batch(on_two_processes):
    two, one = load_file(on_two_processes / "two_gan.safetensors"), gan_toy(batch_size=8)
    assert two.keys() == one.keys()
    for name, weights in one.items():
        assert (two[name] - weights).abs().max() < 1e-5, name


@pytest.mark.parametrize("what", ["trained", "shards"])
def test_two_processes_resume_to_the_bit_whole_or_in_shards(on_two_processes, what):
    results = json.loads((on_two_processes / "results.json").read_text())[what]
    assert results == dict.fromkeys(results, True)
    assert len(results) >= 3


def test_a_loss_that_is_not_finite_stops_before_the_step(tmp_path):
    model = fresh_model()
    with pytest.raises(FloatingPointError, match=r"The loss is nan and its gradient nan in epoch 1, batch \d"):
        run_toy(model, LoopConfig(epochs=1, batch_size=16, out=tmp_path), data=BrightOrDark(bad_item=5))
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_gradients_that_are_checked_every_few_steps_stop_before_the_next_checkpoint(tmp_path, monkeypatch):
    """As on a GPU."""
    monkeypatch.setattr("hfvision.engine.optimizer.check_interval", lambda device: 100)
    bad = BrightOrDark(bad_item=5)
    config = LoopConfig(epochs=2, batch_size=8, out=tmp_path, checkpoint_minutes=0)
    with pytest.raises(FloatingPointError, match=r"The loss is nan and its gradient nan in epoch 1, batch \d"):
        run_toy(fresh_model(), config, data=bad)
    for path in checkpoints(tmp_path / "checkpoints"):
        assert all(weights.isfinite().all() for weights in load_file(path / "model.safetensors").values())


def test_the_number_of_workers_does_not_change_the_weights():
    """Not even with dropout, though workers that stay alive draw no seed at each epoch."""
    weights = []
    for workers in (0, 1):
        model = fresh_model(dropout=0.3)
        run_toy(model, LoopConfig(epochs=3, batch_size=16, workers=workers))
        weights.append(model.state_dict())
    assert same_weights(*weights)


def test_metrics_are_means_over_images_of_the_same_names_in_each_batch():
    means = RunningMeans(torch.device("cpu"))
    means.update({"loss": torch.tensor(1.0), "accuracy": torch.tensor(0.5)}, 30)
    means.update({"accuracy": torch.tensor(1.0), "loss": torch.tensor(2.0)}, 10)
    again = RunningMeans(torch.device("cpu"))
    again.load(means.sums())
    assert again.means() == means.means() == {"loss": 1.25, "accuracy": 0.625}
    with pytest.raises(ValueError, match="The loss gave loss, accuracy at first and loss now"):
        means.update({"loss": torch.tensor(1.0)}, 1)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path):
    settings = {"epochs": 1, "batch_size": 16, "out": tmp_path, "checkpoint_minutes": 0}
    with pytest.raises(KeyboardInterrupt):
        run_toy(fresh_model(), LoopConfig(**settings), stop_at=1)
    (good,) = checkpoints(tmp_path / "checkpoints")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    fill = lambda batch: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # noqa: E731
    try:
        with pytest.raises(OSError, match=rf"could not be written .*the last one saved is {good}"):
            run_toy(fresh_model(), LoopConfig(resume=True, **settings), at_batch=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [good.name]
    assert len(run_toy(fresh_model(), LoopConfig(resume=True, **settings))) == 1


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    settings = {"epochs": 1, "batch_size": 16, "out": tmp_path}
    run_toy(fresh_model(), LoopConfig(**settings))
    with pytest.raises(ValueError, match="holds a training already: resume it with --resume"):
        run_toy(fresh_model(), LoopConfig(**settings))
    with pytest.raises(ValueError, match=r"learning_rate was 0\.002, now 0\.1"):
        run_toy(fresh_model(), LoopConfig(resume=True, learning_rate=0.1, **settings))
    finished = run_toy(fresh_model(), LoopConfig(resume=True, keep_checkpoints=1, **settings))
    assert len(finished) == 1


def test_an_epoch_can_start_from_the_best_weights_again(capfd):
    """As after catastrophic overfitting."""
    accuracies, kept, seen = iter([0.9, 0.2, 0.5]), [], []
    model = fresh_model()

    def evaluate(net):
        seen.append({name: weights.clone() for name, weights in net.state_dict().items()})
        return {"validation_accuracy": next(accuracies)}

    run_toy(
        model,
        LoopConfig(epochs=3, batch_size=16, learning_rate=1e-9, weight_decay=0, optimizer="sgd"),
        evaluate=evaluate,
        on_best=lambda state, entry: kept.append(entry["epoch"]),
        callbacks=[RestoreBest(lambda history: len(history) == 2)],
    )
    assert kept == [1]
    assert "validation accuracy fell to 0.2000: back to the best weights" in capfd.readouterr().err
    count = "cnn.encoder.stages.0.blocks.0.layers.0.normalization.num_batches_tracked"
    assert [int(weights[count]) for weights in seen] == [4, 8, 8], "the third epoch goes on from the first"


def test_the_best_weights_are_kept_and_patience_ends_the_training():
    accuracies = iter([0.5, 0.9, 0.7, 0.8, 0.95])
    kept = []
    model = fresh_model()
    history = run_toy(
        model,
        LoopConfig(epochs=5, batch_size=16, patience=2),
        evaluate=lambda net: {"validation_accuracy": next(accuracies)},
        on_best=lambda state, entry: kept.append((entry["epoch"], state)),
    )
    assert [entry["validation_accuracy"] for entry in history] == [0.5, 0.9, 0.7, 0.8]
    assert [epoch for epoch, _ in kept] == [1, 2]
    assert same_weights(kept[-1][1], model.state_dict())


def test_the_last_weights_come_out_where_asked(tmp_path):
    """Also of a training that is finished, in either direction."""
    accuracies, seen = iter([0.9, 0.5]), []

    def evaluate(net):
        seen.append({name: weights.clone() for name, weights in net.state_dict().items()})
        return {"validation_accuracy": next(accuracies)}

    settings = {"epochs": 2, "batch_size": 16, "ema": 0.9, "out": tmp_path}
    for resume, keep, expected in ((False, "last", 1), (True, "best", 0), (True, "last", 1)):
        model = fresh_model()
        run_toy(model, LoopConfig(resume=resume, keep=keep, **settings), evaluate=evaluate)
        assert same_weights(seen[expected], model.state_dict()), (resume, keep)
    assert not same_weights(*seen)


def test_averaged_weights_are_what_is_evaluated_and_kept():
    plain, averaged = fresh_model(), fresh_model()
    run_toy(plain, LoopConfig(epochs=1, batch_size=16))
    seen = []
    run_toy(
        averaged,
        LoopConfig(epochs=1, batch_size=16, ema=0.99),
        evaluate=lambda net: seen.append(net.classifier.weight.clone()) or {"validation_accuracy": 1.0},
    )
    start, end = fresh_model().classifier.weight, plain.classifier.weight
    assert torch.equal(seen[0], averaged.classifier.weight)
    assert 0 < (averaged.classifier.weight - start).norm() < (end - start).norm()


def test_rare_items_are_drawn_more_often_where_asked():
    weights = torch.where(BrightOrDark().labels == 1, 9.0, 1.0)
    history = run_toy(fresh_model(), LoopConfig(epochs=4, batch_size=64), sample_weights=weights)
    assert 0.8 < sum(entry["bright"] for entry in history) / 4 < 0.98


@pytest.mark.parametrize("changes", [{"compile": False, "gradient_checkpointing": True}, {"schedule": "triangular"}])
def test_other_ways_to_train_learn_too(changes):
    history = run_toy(fresh_model(), LoopConfig(epochs=6, batch_size=16, learning_rate=0.02, **changes))
    assert history[-1]["validation_accuracy"] > 0.95


def test_tensorboard_gets_the_figures_of_each_epoch(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = run_toy(fresh_model(), LoopConfig(epochs=2, batch_size=16, out=tmp_path, trackers=["tensorboard"]))
    events = EventAccumulator(str(tmp_path / "hfvision")).Reload()
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(losses(history))


def test_a_tracker_that_is_not_installed_is_named():
    with pytest.raises(ValueError, match="comet_ml is not installed: pip install comet_ml"):
        run_toy(fresh_model(), LoopConfig(epochs=1, trackers=["comet_ml"]))


@pytest.mark.parametrize("schedule", ["cosine", "triangular", "constant"])
def test_schedules_rise_and_fall(schedule):
    factors = [learning_rate_factor(step, 100, 0.2, schedule) for step in range(100)]
    assert factors[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert all(a >= b for a, b in itertools.pairwise(factors[19:]))
    assert factors[-1] == pytest.approx(1 if schedule == "constant" else 0)
    middle = {"cosine": 0.5, "triangular": 0.5, "constant": 1}[schedule]
    assert factors[59] == pytest.approx(middle)


@pytest.mark.parametrize("batch_size", [16, 32, 64])
def test_runs_of_a_few_steps(batch_size):
    assert len(run_toy(fresh_model(), LoopConfig(epochs=1, batch_size=batch_size))) == 1


def test_unknown_optimizers_are_refused():
    with pytest.raises(ValueError, match=r"timm has no optimizer 'adamm'.*Did you mean 'adam'\?"):
        make_accelerator(LoopConfig(optimizer="adamm"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs must be above 0, got 0"),
        ({"batch_size": -1}, "batch_size must be above 0"),
        ({"warmup": 1.0}, "warmup must be at least 0 and below 1, got 1.0"),
        ({"patience": 0}, "patience must be above 0 or not given"),
        ({"resume": True}, "resume needs out"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LoopConfig(**settings)
