"""The target `paper` in its smallest size, for real, and its table made again from the stores."""

from __future__ import annotations

import csv
import os
from typing import Any

import pytest

pytestmark = pytest.mark.slow

EXPERIMENT = ("--snakefile", "experiments/remidi/Snakefile")
TINY = "experiments/remidi/tiny.yaml"
METHODS = {"mean_shape", "decoder", "gauss_newton", "nearest", "ablation_fans"}


def test_table_has_every_method_and_family(workspace: Any) -> None:
    results = workspace.root / "results/paper_tiny"
    with open(results / "paper/table.csv") as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} == METHODS
    assert {row["family"] for row in rows} == {"bend_twist", "beading", "fanning"}
    mean = [row for row in rows if row["method"] == "mean_shape"]
    assert all(float(row["ratio_to_mean_shape"]) == pytest.approx(1.0) for row in mean)
    for figure in ("paper", "ablations"):
        assert (results / f"figures/{figure}.png").stat().st_size > 0


def test_table_is_remade_without_reconstructing(workspace: Any) -> None:
    os.remove(workspace.root / "results/paper_tiny/paper/scores.csv")
    plan = workspace.snakemake(*EXPERIMENT, "--dry-run", config=TINY).stdout
    assert "tabulate_paper" in plan
    for rule in ("reconstruct_held_out", "simulate_shard", "ablate"):
        assert rule not in plan
