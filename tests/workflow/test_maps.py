"""`make maps` in its smallest size, script by script, and its configuration refused by name."""

import runpy
import sys
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from spinmesh.errors import ConfigError
from spinmesh.io.tables import read_rows
from spinmesh.maps import QUANTITIES
from spinmesh.settings.maps import Maps

ROOT = Path(__file__).parents[2]
TINY = Maps.checked(yaml.safe_load((ROOT / "config/test/maps.yaml").read_text()), "tiny")


def script(name: str, home: Path, taken: dict[str, Any], made: dict[str, Any], shard: int = 0):
    """Run a script of the workflow in this process, with the parameters of its rule."""
    origin = {"seed": TINY.seed, "config_digest": "tiny"}
    given = SimpleNamespace(
        input=SimpleNamespace(**taken),
        output=SimpleNamespace(**made),
        params=SimpleNamespace(**TINY.model_dump(), provenance=origin, checkpoint=home / "flow"),
        log=[str(home / "logs" / f"{name}.log")],
        wildcards=SimpleNamespace(shard=str(shard)),
    )
    path = ROOT / f"workflow/maps/scripts/{name}.py"
    runpy.run_path(str(path), init_globals={"snakemake": given})


def test_a_wrong_key_of_the_configuration_is_named() -> None:
    with pytest.raises(ConfigError, match=r"unknown key `posterior.flow.member`.*`members`"):
        Maps.checked(
            {"acquisition": {"scheme": "x.scheme"}, "posterior": {"flow": {"member": 2}}}, "config"
        )


def run_all(home: Path) -> dict[str, Path]:
    """Every rule after the other; the files that they leave behind."""
    names = ("kernels", "model", "calibration", "phantom", "truth", "maps")
    files = {name: home / f"{name}.zarr" for name in names} | {
        "table": home / "table.csv", "bids": home / "bids", "coverage": home / "coverage.png",
    }  # fmt: skip
    shards = [home / f"{shard}.zarr" for shard in range(TINY.kernels.shards)]
    for number, shard in enumerate(shards):
        script("simulate_kernels", home, {}, {"kernels": shard}, number)
    script("gather_kernels", home, {"shards": shards}, files)
    for name in ("train_posterior", "calibrate", "simulate_known"):
        script(name, home, files, files)
    script("map_known", home, files, files | {"bids": home / "derivative"})
    script("plot", home, files, files | {"maps": home / "maps.png"})
    return files


@pytest.mark.slow
def test_maps_of_a_known_slice_in_the_smallest_size(tmp_path: Path) -> None:
    """Kernels, training, calibration, a phantom in BIDS and its maps."""
    hook, show = sys.excepthook, warnings.showwarning
    try:
        files = run_all(tmp_path)
    finally:
        sys.excepthook, warnings.showwarning = hook, show
    rows = [(row["quantity"], row["snr"]) for row in read_rows(files["table"])]
    assert set(rows) == set(product(QUANTITIES, ["10-20", "20-40", "40-100"]))
    images = list((tmp_path / "derivative").rglob("*dwimap.nii.gz"))
    assert len(images) == 4 * len(QUANTITIES) + 1
    for name in ("coverage", "maps"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


@pytest.mark.slow
def test_every_rule_of_the_workflow_is_planned(new_workspace: Callable[[], Any]) -> None:
    words = ("--snakefile", "workflow/maps/Snakefile", "--dry-run")
    done = new_workspace().snakemake(*words, config="config/maps.yaml")
    assert done.returncode == 0, done.stdout
    for rule in ("simulate_kernels", "train_posterior", "calibrate", "map_known", "plot", "view"):
        assert f"rule {rule}:" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_for_the_training_is_told_before_any_job(new_workspace: Callable[[], Any]) -> None:
    workspace = new_workspace()
    config = yaml.safe_load((workspace.root / "config/maps.yaml").read_text())
    config.setdefault("posterior", {})["device"] = "cuda"
    (workspace.root / "cuda.yaml").write_text(yaml.safe_dump(config))
    done = workspace.snakemake("--snakefile", "workflow/maps/Snakefile", config="cuda.yaml")
    assert done.returncode != 0
    assert "`device` of the stage (train_posterior): cuda is asked for" in done.stdout
    assert "rule simulate_kernels" not in done.stdout
