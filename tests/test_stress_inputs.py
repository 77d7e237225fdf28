"""The script that counts what damaged images do: the commands survive some, and what does not survive is found."""

import os
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


def answer(connection: Connection) -> None:
    """Hangs, ends or answers as the name of the file says."""
    connection.send("ready")
    while (path := connection.recv()) is not None:
        kind = Path(path).stem
        if kind == "hang":
            time.sleep(60)
        if kind == "crash":
            os._exit(139)
        connection.send([("classify", "result", ""), ("upscale", kind, "said")])


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    import stress_inputs

    return stress_inputs


def test_each_outcome_is_counted_and_what_failed_is_kept(script, tmp_path, capsys):
    paths = [tmp_path / f"{kind}.png" for kind in ("result", "hang", "refusal", "crash", "traceback", "result")]
    for path in paths:
        path.write_bytes(b"image")
    worker = script.Worker(answer, timeout=2)
    counts = script.stress("files", iter(paths), worker, tmp_path / "kept")
    worker.close()
    assert counts == {"result": 2, "refusal": 1, "hang": 1, "crash": 1, "traceback": 1}
    said = capsys.readouterr()
    assert "files: 6 tried, 3 survived (result 2, refusal 1, traceback 1, hang 1, crash 1)" in said.out
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"hang.png", "crash.png", "traceback.png"}
    assert "exit code 139" in said.err


def test_damage_is_the_same_for_the_same_seed(script, tmp_path):
    files = []
    for seed in (0, 0, 1):
        folder = tmp_path / str(len(files))
        folder.mkdir()
        files.append([path.read_bytes() for path in script.damaged_photos(folder, 30, seed)])
    assert files[0] == files[1] != files[2]
    assert len(set(files[0])) == 30


def test_commands_survive_damaged_photographs(tmp_path):
    command = [sys.executable, SCRIPTS / "stress_inputs.py", "--count", "40", "--out", tmp_path / "kept"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "damaged photographs: 40 tried, 40 survived" in done.stdout
    assert not (tmp_path / "kept").exists()
