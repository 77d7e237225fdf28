"""Long trainings: interrupted, killed, damaged or started twice, they lose nothing and say how to go on."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from test_classify import QUICK, write_images
from training_toy import BrightOrDark, fresh_model, run_toy

from hfvision.cli.main import main
from hfvision.engine.checkpoint import checkpoints
from hfvision.engine.config import LoopConfig
from hfvision.engine.interrupt import Interrupted
from hfvision.engine.lock import NAME as LOCK
from hfvision.engine.lock import process_start
from hfvision.utils.files import HOST

SETTINGS = {"epochs": 3, "batch_size": 8, "checkpoint_minutes": 0, "ema": 0.9}


def same_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, torch.Tensor]:
    model = fresh_model(dropout=0.3)
    run_toy(model, LoopConfig(**SETTINGS))
    return model.state_dict()


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory) -> Path:
    """A training with checkpoints of the steps 12 and 13."""
    out = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.raises(KeyboardInterrupt):
        run_toy(fresh_model(dropout=0.3), LoopConfig(out=out, **SETTINGS), stop_at=13)
    assert [path.name for path in checkpoints(out / "checkpoints")] == ["step-00000012", "step-00000013"]
    return out


def replace(name: str, text: str):
    return lambda path: (path / name).write_text(text)


def with_state(**changes):
    def damage(path: Path) -> None:
        state = json.loads((path / "state.json").read_text())
        (path / "state.json").write_text(json.dumps(state | changes))

    return damage


def cut(name: str):
    return lambda path: (path / name).write_bytes((path / name).read_bytes()[:-100])


def other_shapes(path: Path) -> None:
    tensors = load_file(path / "model.safetensors")
    save_file({key: value.flatten()[:1] for key, value in tensors.items()}, path / "model.safetensors")


def flip_a_bit(path: Path) -> None:
    content = bytearray((path / "optimizer.safetensors").read_bytes())
    content[-20] ^= 1
    (path / "optimizer.safetensors").write_bytes(content)


def empty(path: Path) -> None:
    for file in path.iterdir():
        file.unlink()


def folder_for_file(path: Path) -> None:
    (path / "ema.safetensors").unlink()
    (path / "ema.safetensors").mkdir()


DAMAGES = {
    "cut model": (cut("model.safetensors"), "model.safetensors is not as it was written"),
    "cut random states": (cut("process-0.safetensors"), "process-0.safetensors is not as it was written"),
    "a bit": (flip_a_bit, "optimizer.safetensors is not as it was written"),
    "no optimizer": (lambda path: (path / "optimizer.safetensors").unlink(), "optimizer.safetensors is missing"),
    "list": (replace("state.json", "[]"), r"state.json holds '\[\]' in place of a mapping"),
    "null": (replace("state.json", "null"), "state.json holds 'None' in place of a mapping"),
    "half of it": (cut("state.json"), "state.json cannot be read"),
    "deep": (replace("state.json", "[" * 100_000), "state.json cannot be read"),
    "epoch": (with_state(epoch="1"), "epoch in state.json is '1'"),
    "step": (with_state(step=-3), "step in state.json is '-3'"),
    "history": (with_state(history=[3]), "history in state.json does not fit"),
    "numbers": (with_state(optimizer={}, groups=[5]), "step-00000013: "),
    "shapes": (other_shapes, "model.safetensors is not as it was written"),
    "empty": (empty, "state.json is missing"),
    "unreadable": (folder_for_file, "ema.safetensors cannot be read"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    interrupted, uninterrupted, tmp_path, capfd, damage, message
):
    out = shutil.copytree(interrupted, tmp_path / "run")
    damage(out / "checkpoints" / "step-00000013")
    model = fresh_model(dropout=0.3)
    run_toy(model, LoopConfig(out=out, resume=True, **SETTINGS))
    lines = re.split(r"[\r\n]+", capfd.readouterr().err)
    warnings = [line for line in lines if "damaged checkpoint" in line]
    assert len(warnings) == 1
    assert re.search(message, warnings[0])
    assert f"Resuming from {out / 'checkpoints' / 'step-00000012'}." in lines
    assert same_weights(model.state_dict(), uninterrupted)
    names = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert names == ["step-00000023", "step-00000024"], "the damaged one is gone once a later one is written"


def test_without_a_usable_checkpoint_nothing_is_removed(interrupted, tmp_path):
    out = shutil.copytree(interrupted, tmp_path / "run")
    for path in checkpoints(out / "checkpoints"):
        (path / "state.json").unlink()
    before = sorted(path for path in out.rglob("*"))
    for resume, message in ((True, r"No checkpoint can be used: .*13: state.json is missing"), (False, "--resume")):
        with pytest.raises(ValueError, match=message):
            run_toy(fresh_model(), LoopConfig(out=out, resume=resume, **SETTINGS))
        assert sorted(path for path in out.rglob("*")) == before


def test_checkpoints_without_digests_as_of_earlier_versions_are_read(interrupted, uninterrupted, tmp_path, capfd):
    out = shutil.copytree(interrupted, tmp_path / "run")
    (out / "config.yaml").unlink()
    for path in checkpoints(out / "checkpoints"):
        state = json.loads((path / "state.json").read_text())
        kept = {key: value for key, value in state.items() if key not in ("files", "data", "first_loss")}
        (path / "state.json").write_text(json.dumps(kept))
    other_shapes(out / "checkpoints" / "step-00000013")
    model = fresh_model(dropout=0.3)
    run_toy(model, LoopConfig(out=out, resume=True, **SETTINGS))
    assert "in model.safetensors has the shape [1], in the model [" in capfd.readouterr().err
    assert same_weights(model.state_dict(), uninterrupted)


@pytest.fixture(scope="module")
def dead() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_remains_of_a_killed_training_are_removed_and_no_other_file(interrupted, tmp_path, dead):
    out = shutil.copytree(interrupted, tmp_path / "run")
    ours = [f".hfvision-tmp-{HOST}-{dead}-00000001.png", f"../.hfvision-tmp-{HOST}-{dead}-00000001/run/config.json"]
    ours += ["checkpoints/.partial-step-00000014/model.safetensors", "checkpoints/.removed-step-00000009/state.json"]
    others = [
        f".hfvision-tmp-{HOST}-{os.getppid()}-00000001.png",
        ".notes-99999999.png",
        "checkpoints/.partial-mine/a",
    ]
    for name in [*ours, *others]:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("")
    run_toy(fresh_model(dropout=0.3), LoopConfig(out=out, resume=True, **SETTINGS))
    assert not any((out / name).exists() for name in ours)
    assert not [*tmp_path.glob("run/checkpoints/.removed*"), *tmp_path.glob(f".*-{dead}-*")]
    assert all((out / name).exists() for name in others)


def owner(**changes) -> str:
    fields = {"pid": os.getpid(), "host": socket.gethostname(), "started": "2026-01-01 00:00:00 UTC"}
    return json.dumps(fields | {"process_start": process_start(os.getpid())} | changes)


def test_a_training_that_runs_keeps_another_out(tmp_path, capfd):
    config = LoopConfig(out=tmp_path, **SETTINGS | {"epochs": 1})
    refused, contents = [], []

    def at_batch(number: int) -> None:
        if number == 1:
            contents.append(json.loads((tmp_path / LOCK).read_text()))
            thread = threading.Thread(target=second)
            thread.start()
            thread.join()

    def second() -> None:
        try:
            run_toy(fresh_model(), config)
        except ValueError as error:
            refused.append(str(error))

    run_toy(fresh_model(), config, at_batch=at_batch)
    assert (contents[0]["pid"], contents[0]["host"]) == (os.getpid(), socket.gethostname())
    assert contents[0]["started"].endswith("UTC")
    assert refused[0].startswith(f"A training is already running in {tmp_path} (process {os.getpid()} on ")
    assert not list(tmp_path.glob(".training*")), "the lock goes with the training"


def test_a_lock_of_a_dead_process_is_taken_over_and_one_of_a_live_process_or_another_host_is_not(
    tmp_path, dead, capfd
):
    config = LoopConfig(out=tmp_path, resume=True, **SETTINGS | {"epochs": 1})
    lock = tmp_path / LOCK
    for text, message in (
        (owner(pid=os.getppid(), process_start=process_start(os.getppid())), "already running"),
        (owner(pid=os.getppid(), process_start=None), "already running"),
        (owner(host="elsewhere"), rf"another machine \(process {os.getpid()} on elsewhere.*remove {lock} and start"),
        ("", f"The lock file {lock} cannot be read"),
        ("[]", "cannot be read. If no training runs in"),
        (owner(pid="7"), "cannot be read"),
    ):
        lock.write_text(text)
        with pytest.raises(ValueError, match=message):
            run_toy(fresh_model(), config)
        assert lock.read_text() == text
    lock.unlink()
    lock.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="cannot be read"):
        run_toy(fresh_model(), config)
    lock.unlink()
    for text in (owner(pid=dead), owner(pid=os.getppid(), process_start="another boot/77")):
        lock.write_text(text)
        run_toy(fresh_model(), config)
        assert "no longer runs: its lock is taken over" in capfd.readouterr().err
        assert not lock.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_training_after_the_step_with_a_checkpoint(tmp_path, uninterrupted, capfd, number):
    settings = SETTINGS | {"checkpoint_minutes": 60}
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    for at in (3, 15):  # in the middle of an epoch, and in its last batch
        with pytest.raises(Interrupted, match=r"step-000000\d\d is written. Resume with resume=True") as caught:
            run_toy(
                fresh_model(dropout=0.3),
                LoopConfig(out=tmp_path, resume=True, **settings),
                at_batch=lambda batch, at=at: (
                    signal.raise_signal(number) if batch + len(done(tmp_path)) == at else None
                ),
            )
        assert caught.value.number == number
        assert "writing a checkpoint after this step" in capfd.readouterr().err
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["step-00000004", "step-00000016"]
    assert not (tmp_path / LOCK).exists()
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    model = fresh_model(dropout=0.3)
    run_toy(model, LoopConfig(out=tmp_path, resume=True, **settings))
    assert same_weights(model.state_dict(), uninterrupted)


def done(out: Path) -> range:
    """The steps up to the newest checkpoint."""
    there = checkpoints(out / "checkpoints")
    return range(int(there[-1].name.removeprefix("step-")) if there else 0)


def test_a_second_signal_ends_the_training_at_once(tmp_path):
    def at_batch(number: int) -> None:
        if number == 3:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)  # a launcher repeats the terminal's
            time.sleep(0.6)
            signal.raise_signal(signal.SIGINT)
            pytest.fail("it goes on")

    with pytest.raises(Interrupted, match="Stopped at once"):
        run_toy(fresh_model(), LoopConfig(out=tmp_path, **SETTINGS | {"checkpoint_minutes": 60}), at_batch=at_batch)
    assert not checkpoints(tmp_path / "checkpoints")
    assert not (tmp_path / LOCK).exists()


def test_what_a_resumed_training_may_not_change_is_refused_by_name(interrupted, tmp_path):
    out = shutil.copytree(interrupted, tmp_path / "run")
    with pytest.raises(ValueError, match=r"another training: ema was 0.9, now 0.5; epochs was 3, now 4\."):
        run_toy(fresh_model(), LoopConfig(out=out, resume=True, **SETTINGS | {"epochs": 4, "ema": 0.5}))
    fewer = BrightOrDark()
    fewer.__class__ = type("Fewer", (BrightOrDark,), {"__len__": lambda self: 60})
    with pytest.raises(ValueError, match="number of training images was 64, now 60"):
        run_toy(fresh_model(dropout=0.3), LoopConfig(out=out, resume=True, **SETTINGS), data=fewer)
    renamed = fresh_model(dropout=0.3)
    renamed.config.id2label = {0: "night", 1: "day"}
    with pytest.raises(ValueError, match="classes was LABEL_0, LABEL_1, now night, day"):
        run_toy(renamed, LoopConfig(out=out, resume=True, **SETTINGS))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Class folders, and images with masks beside them."""
    folder = tmp_path_factory.mktemp("data")
    write_images(folder / "classes", {"red": 20, "green": 20, "blue": 20})
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / "masked" / part).mkdir(parents=True)
    for number in range(10):
        mask = Image.new("L", (40, 40))
        ImageDraw.Draw(mask).ellipse((8, 8, 20 + number, 20 + number), fill=255)
        pixels = np.asarray(mask) * 0.6 + rng.normal(45, 15, (40, 40))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "masked" / "images" / f"{number}.png")
        mask.save(folder / "masked" / "masks" / f"{number}.png")
    return folder


def add_image(data: Path, path: Path) -> None:
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(path)
    Image.new("L", (48, 48)).save(data / "masked" / "masks" / "x.png")


@pytest.fixture(scope="module")
def parent(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("parent") / "colours"
    assert main(["train", "classifier", "--data", str(data / "classes"), "--out", str(out), *QUICK]) == 0
    return out


def words(**options) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def commands(data: Path, parent: Path) -> dict[str, list[str]]:
    quick = [*QUICK[2:], "--augment", "strong"]
    upscaler = words(
        model="fast-tiny",
        model_fields="{hidden_size: 8, block_widths: [[8]], discriminator_width: 4}",
        scale=2,
        epochs=2,
        steps_per_epoch=5,
        batch_size=4,
        crop=8,
        gan="relativistic",
    )
    return {
        "classifier": ["train", "classifier", "--data", str(data / "classes"), "--model", "cnn:tiny", *quick],
        "superres": ["train", "superres", "--data", str(data / "classes"), *upscaler],
        "segmenter": [
            *["train", "segmenter", "--data", str(data / "masked"), "--model-fields"],
            *["{stage_widths: [[[8]], [[12]]], stage_strides: [1, 2]}", *words(crop=32, epochs=3, batch_size=2)],
        ],
        "prune": [
            *["prune", str(parent), "--data", str(data / "classes"), "--rounds", "2", "--importance-images", "16"],
            *["--target-params", "0.5", *quick],
        ],
        "distill": ["distill", str(parent), "cnn:tiny", "--data", str(data / "classes"), *quick],
    }


def interrupt(argv: list[str], folder: Path, number: int, moment: str) -> int:
    """The exit code of a command that gets a signal once `moment` is in its folder."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            if any(folder.glob(moment)):
                os.kill(os.getpid(), number)
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        return main(argv)
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize(
    ("task", "number", "moment"),
    [
        ("classifier", signal.SIGINT, "checkpoints/step-*"),
        ("superres", signal.SIGTERM, "checkpoints/step-*"),
        ("segmenter", signal.SIGINT, "checkpoints/step-*"),
        ("prune", signal.SIGTERM, "checkpoints/step-*"),
        ("distill", signal.SIGTERM, "config.yaml"),
    ],
)
def test_the_printed_command_resumes_to_the_same_bytes(data, parent, tmp_path, capfd, task, number, moment):
    command = commands(data, parent)[task]
    assert main([*command, "--out", str(tmp_path / "whole")]) == 0
    capfd.readouterr()
    out = tmp_path / "my run"
    argv = [*command, "--out", str(out), "--checkpoint-minutes", "0"]
    assert interrupt(argv, out, number, moment) == 128 + number
    error = capfd.readouterr().err
    assert "Traceback" not in error
    assert not (out / LOCK).exists()
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["resume"] is False
    line = error.splitlines()[-1]
    assert line.startswith("hfvision: Interrupted")
    resume = shlex.split(line.partition("Resume with: hfvision ")[2])
    start = {"prune": ["prune", str(parent)], "distill": ["train", "classifier"]}.get(task, ["train", task])
    assert resume == [*start, "--resume", "--out", str(out)]
    if moment != "config.yaml":
        assert main([*resume, "--learning-rate", "0.5"]) == 2
        assert f"learning_rate was {config['learning_rate']}, now 0.5" in capfd.readouterr().err
    if moment != "config.yaml" and task in ("superres", "segmenter"):
        grown = {"superres": data / "classes" / "red" / "x.png", "segmenter": data / "masked" / "images" / "x.png"}
        add_image(data, grown[task])
        assert main(resume) == 2
        assert "is of another training: number of training images was" in capfd.readouterr().err
        for path in data.rglob("x.png"):
            path.unlink()
    assert main([*resume, "--keep-checkpoints", "1"]) == 0
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert len(checkpoints(out / "checkpoints")) == 1
    assert not list(out.rglob(".*"))
    for file in ("metrics.json", "record.json"):
        assert json.loads((out / file).read_text())
    with Image.open(out / "curve.png") as picture:
        picture.load()


def test_a_damaged_folder_ends_in_one_sentence_and_exit_code_2(data, parent, tmp_path, capfd):
    out = shutil.copytree(parent, tmp_path / "run")
    for path in checkpoints(out / "checkpoints"):
        (path / "state.json").write_text("[]")
    assert main(["train", "classifier", "--resume", "--out", str(out)]) == 2
    assert capfd.readouterr().err.splitlines()[-1].startswith("hfvision: error: No checkpoint can be used: ")
    (out / "config.yaml").write_text("[[[")
    assert main(["train", "classifier", "--resume", "--out", str(out)]) == 2
    assert "config.yaml is not YAML" in capfd.readouterr().err


def test_a_second_command_for_the_same_folder_is_refused_while_the_first_trains(data, tmp_path, capfd):
    out = tmp_path / "run"
    options = ["--data", str(data / "classes"), "--out", str(out), *QUICK, "--epochs", "1000"]
    command = [sys.executable, "-m", "hfvision", "train", "classifier", *options]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    ) as first:
        try:
            end = time.monotonic() + 240
            while not (out / "model.safetensors").exists():
                assert first.poll() is None, first.stderr.read()
                assert time.monotonic() < end
                time.sleep(0.05)
            assert main(["train", "classifier", *options]) == 2
            error = capfd.readouterr().err
            assert f"A training is already running in {out} (process {first.pid} on " in error
            first.send_signal(signal.SIGTERM)
            _, error = first.communicate(timeout=120)
        finally:
            first.kill()
    assert first.returncode == 143
    assert f"Resume with: hfvision train classifier --resume --out {out}" in error.splitlines()[-1]
    assert len(checkpoints(out / "checkpoints")) == 1


class Recorded(BrightOrDark):
    """Remembers which items were read, in which order."""

    def __init__(self, length: int):
        super().__init__()
        self.length = length
        self.read: list[int] = []

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.read.append(index)
        return super().__getitem__(index % 64)


@pytest.mark.parametrize(
    ("length", "batch_size", "batch", "steps"),
    [(64, 24, 24, 3), (64, None, 8, 8), (5, None, 5, 1), (257, 8, 8, 33), (520, None, 16, 33), (70, 100, 70, 1)],
)
def test_small_sets_are_trained_on_whole_in_batches_that_fit(tmp_path, length, batch_size, batch, steps):
    recorded = Recorded(length)
    run_toy(fresh_model(), LoopConfig(out=tmp_path, epochs=1, batch_size=batch_size), data=recorded)
    assert len(recorded.read) == batch * steps
    assert set(recorded.read) == set(range(length))


def test_large_sets_leave_out_what_fills_no_batch():
    recorded = Recorded(4100)
    run_toy(fresh_model(), LoopConfig(epochs=1, batch_size=128), data=recorded)
    assert len(recorded.read) == len(set(recorded.read)) == 4096


def test_the_record_has_the_batch_size_that_was_chosen(tmp_path, data, capfd):
    options = ["--model", "cnn:tiny", "--epochs", "4", "--augment", "none"]
    assert main(["train", "classifier", "--data", str(data / "classes"), "--out", str(tmp_path), *options]) == 0
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["training"]["config"]["batch_size"] == 8
    assert record["validation"]["top1"] > 0.5
    assert "chance level" not in capfd.readouterr().err


def test_a_result_at_chance_level_is_said_to_be_one(tmp_path, capfd):
    rng = np.random.default_rng(0)
    for number in range(60):
        folder = tmp_path / "data" / ("even", "odd")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    options = ["--data", str(tmp_path / "data"), "--validation", "0.5", *QUICK, "--learning-rate", "1e-6"]
    assert main(["train", "classifier", "--out", str(tmp_path / "out"), *options]) == 0
    warning = next(line for line in capfd.readouterr().err.splitlines() if "chance level" in line)
    assert warning.startswith("hfvision: warning: validation: the result is at chance level")
    assert "--learning-rate, now 1e-06" in warning
    few = ["--validation", "0.05", "--learning-rate", "1e-6"]
    assert (
        main(["train", "classifier", "--out", str(tmp_path / "few"), "--data", str(tmp_path / "data"), *QUICK, *few])
        == 0
    )
    warning = capfd.readouterr().err
    assert "chance level" not in warning
    assert "validation: 4 images are too few to tell whether anything was learned: give more" in warning


def test_a_class_of_which_no_image_can_be_read_is_refused(tmp_path, capfd):
    for number in range(12):
        (tmp_path / "data" / "abc"[number % 3]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(tmp_path / "data" / "abc"[number % 3] / f"{number}.png")
    for path in (tmp_path / "data" / "b").iterdir():
        path.write_bytes(b"")
    options = ["--data", str(tmp_path / "data"), "--bad-images", "skip", *QUICK]
    assert main(["train", "classifier", "--out", str(tmp_path / "out"), *options]) == 2
    assert "No training image of the class 'b' can be read" in capfd.readouterr().err


def test_a_loss_that_explodes_is_said_once(capfd):
    model, config = fresh_model(), LoopConfig(epochs=3, batch_size=16, optimizer="sgd", learning_rate=0.01)
    run_toy(model, config)
    assert "diverges" not in capfd.readouterr().err

    class Growing(BrightOrDark):
        epoch = 0

        def set_epoch(self, epoch):
            self.epoch = epoch

        def __getitem__(self, index):
            item = super().__getitem__(index)
            return item | {"labels": 1 - item["labels"]} if self.epoch else item

    options = {"epochs": 4, "batch_size": 16, "optimizer": "sgd", "learning_rate": 1.0, "warmup": 0.0}
    run_toy(fresh_model(norm="none"), LoopConfig(schedule="constant", **options), data=Growing())
    warnings = [line for line in capfd.readouterr().err.splitlines() if "diverges" in line]
    assert len(warnings) == 1
    assert "--max-grad-norm 1" in warnings[0]
