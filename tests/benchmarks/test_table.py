"""The benchmark's table says what was measured, and compares at equal error."""

import csv
import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from simulator_cases.bases import time_at
from simulator_cases.growth import Series
from simulator_cases.table import Row, printed, write


def test_a_row_reaches_the_files_with_its_target_and_the_machine(tmp_path):
    rows = [
        Row("fake", "a slow case", 2e-4, 3.0, "error 1e-4 in 1 s", False, "a note"),
        Row("fake", "nothing to meet"),
    ]
    write(rows, tmp_path)
    with open(tmp_path / "simulator.csv", newline="") as stream:
        missed, free = csv.DictReader(stream)
    assert (missed["error"], missed["cpu_s"], missed["met"]) == ("2.0e-04", "3", "no")
    assert (free["error"], free["met"]) == ("", "")
    assert "torch" in missed["machine"] and "commit" in missed["machine"]
    text = (tmp_path / "simulator.md").read_text()
    assert "| fake | a slow case | 2.0e-04 | 3 | error 1e-4 in 1 s | no | a note |" in text
    assert "target error 1e-4 in 1 s: no" in printed(rows[0])


def test_time_at_equal_error_follows_the_power_law_between_measured_bases():
    """t = e^-1/2 at e = 1e-2, 1e-4, 1e-6; a basis that others beat in both counts for nothing."""
    points = [(1e-2, 10.0), (1e-4, 100.0), (1e-6, 1000.0), (1e-3, 500.0)]
    # Exact in log-log: only rounding is left.
    assert time_at(points, 1e-5) == pytest.approx(math.sqrt(1e5), rel=1e-12)
    assert time_at(points, 1e-1) == pytest.approx(10.0, rel=1e-12)
    assert math.isnan(time_at(points, 1e-7))


def test_the_growth_law_of_a_power_is_that_power():
    x = np.array([1e3, 1e4, 1e5])
    exponent, factor = Series("nodes", x, 2e-6 * x**1.2).law
    # Least squares of exact data: rounding of the logarithms.
    assert exponent == pytest.approx(1.2, rel=1e-9)
    assert factor == pytest.approx(2e-6, rel=1e-8)
