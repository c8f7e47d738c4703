"""Issue 13, points 14, 16 and 20: what a run says, where, and how it can be gone on with."""

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from spinmesh.inversion.judgement import Credibility
from spinmesh.stored import Schema

ROOT = Path(__file__).parents[2]
GOOD = Credibility(30.0, 30, 4.0, 9.0, noise_free=False, determined=3, latent=16)


# ---- 14: what is the prior's
def test_a_shape_that_no_datum_determines_is_said_to_be_the_priors() -> None:
    assert GOOD.of_the_signal and not GOOD.warnings
    blind = replace(GOOD, determined=0)
    assert not blind.of_the_signal
    assert "none of the shape's 16 directions" in blind.warnings[0]
    assert "those of the prior" in blind.warnings[0]
    assert not replace(GOOD, chi2=300.0).of_the_signal


# ---- 16: folders
def test_a_clone_in_a_folder_with_blanks_is_refused_at_once(tmp_path) -> None:
    folder = tmp_path / "my clone"
    folder.mkdir()
    (folder / "Makefile").write_text((ROOT / "Makefile").read_text())
    done = subprocess.run(["make", "help"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "has blanks in its name: move the clone" in done.stderr


# ---- 20: logs and locks
def test_a_job_leaves_its_error_in_its_log_and_one_line_on_the_console(tmp_path) -> None:
    code = (
        "from spinmesh.progress import log_to; from spinmesh.errors import MeshError\n"
        "log_to('logs/job.log')\nraise MeshError('cell.msh: no tetrahedra.')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "MeshError: cell.msh: no tetrahedra. (log: logs/job.log)\n"
    log = (tmp_path / "logs/job.log").read_text()
    assert "MeshError: cell.msh: no tetrahedra." in log
    assert "Traceback" in log


def test_a_locked_folder_says_which_target_unlocks_it(tmp_path) -> None:
    (tmp_path / ".snakemake/locks").mkdir(parents=True)
    command = ["make", "-f", str(ROOT / "Makefile"), "free"]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    (tmp_path / ".snakemake/locks/0.input.lock").write_text("")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "make unlock run" in done.stdout


def test_a_bomb_of_mappings_is_refused_before_snakemake_reads_it(tmp_path) -> None:
    """Nine values in each of eight mappings of mappings are 43 million."""
    keys = "abcdefghi"
    levels = (f"{b}: &{b} {{{', '.join(f'{k}: *{a}' for k in keys)}}}" for a, b in pairwise(keys))
    (tmp_path / "bomb.yaml").write_text("\n".join(["a: &a {a: 1}", *levels]))
    words = ["readable", "CONFIG=bomb.yaml", f"VENV={sys.prefix}"]
    command = ["make", "-f", str(ROOT / "Makefile"), *words]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode != 0
    assert "bomb.yaml: its aliases make more than 100,000 values" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("stage", "target"),
    [("simulate", "run"), ("phantom", "phantom"), ("paper", "paper"), ("synthesis", "synthesis")],
)
def test_a_missing_store_is_asked_for_by_a_make_target_that_is_there(stage, target) -> None:
    assert Schema("spinmesh/x", 1, stage).maker == f"stage `{stage}` (make {target})"
    assert f"\n{target}: " in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("stage", ["MESH", "SIMULATE", "RECONSTRUCT", "SYNTHESISE"])
def test_all_asks_for_the_stores_of_every_stage(stage: str) -> None:
    rule = (ROOT / "workflow/Snakefile").read_text().split("rule all:")[1].split("\nrule ")[0]
    assert f"{stage}_STORES" in rule
