"""Long jobs that are killed end at the same bytes when they go on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "stress_kills.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the script forks")
def test_killed_jobs_end_at_the_same_bytes():
    command = [sys.executable, str(SCRIPT), "--kills", "2", "--seed", "5"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(" of   2 went on to the same bytes" in line for line in lines) == 8
    killed, total = lines[-1].split()[0:3:2]
    assert killed == total == "16"
