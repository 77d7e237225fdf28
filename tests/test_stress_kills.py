"""Long jobs that are killed end at the same bytes when they go on."""

import os
import re
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
    found = [re.search(r"(\d+) of +(\d+) (?:kills )?went on to the same bytes", line) for line in lines]
    counts = [(int(match[1]), int(match[2])) for match in found if match]
    assert len(counts) == 9, "file events and moments of four jobs, and all of them"
    assert all(same == killed for same, killed in counts)
    assert counts[-1][1] >= 12, "a job may end before its moment"
