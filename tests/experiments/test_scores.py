"""The comparison of score models in its smallest size, its tables made again from the stores."""

from __future__ import annotations

import csv
import os
from typing import Any

import pytest

pytestmark = pytest.mark.slow

EXPERIMENT = ("--snakefile", "experiments/scores/Snakefile")
TINY = "experiments/scores/tiny.yaml"


def test_tables_have_every_model_beside_the_floor(workspace: Any) -> None:
    results = workspace.root / "results/synthesis_tiny"
    with open(results / "evaluation/table.csv") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"train images", "nearest signal", "white noise", "edm", "fractional"}
    assert float(rows["edm"]["train_seconds"]) > 0
    assert rows["fractional"]["train_seconds"] == rows["edm"]["train_seconds"], "its own network"
    with open(results / "evaluation/point_table.csv") as file:
        points = [(row["set"], row["model"]) for row in csv.DictReader(file)]
    assert points == [("checkerboard", "edm"), ("checkerboard", "double-well")]
    for figure in ("models", "gallery", "points"):
        assert (results / f"figures/{figure}.png").stat().st_size > 0


def test_tables_are_remade_without_training(workspace: Any) -> None:
    os.remove(workspace.root / "results/synthesis_tiny/evaluation/scores.csv")
    plan = workspace.snakemake(*EXPERIMENT, "--dry-run", config=TINY).stdout
    assert "tabulate_scores" in plan
    for rule in ("train_compared_score", "draw_compared_images", "draw_points", "simulate_bundles"):
        assert rule not in plan
