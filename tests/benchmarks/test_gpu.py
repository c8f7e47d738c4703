"""The benchmark of a GPU runs on any machine, and keeps to its time."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/gpu.py"


@pytest.mark.slow
def test_it_prints_what_it_has_when_its_time_is_over() -> None:
    """Half a second is not enough for all, on any machine."""
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--quick", "--minutes", "0.01"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "torch" in done.stdout and "| what | a second | of | on |" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith("0.01 minutes are over; not measured, or not all: ")
    assert last.endswith(", maps.")
