"""One tiny run for real, killed and resumed; then what a change of value or code would rerun."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from typer.testing import CliRunner

from spinmesh.cli import app
from tests.workflow.conftest import Run, times

pytestmark = pytest.mark.slow

FIGURES = {"plot_meshes", "plot_signals", "plot_reconstruction", "plot_synthesis"}
RECONSTRUCT = {"train_shape_model", "reconstruct_shape", "plot_reconstruction"}
SYNTHESISE = {"make_images", "train_score_model", "synthesise_images", "plot_synthesis"}
STORES = {
    "mesh/substrates.zarr": "substrates",
    "mesh/target.zarr": "substrates",
    "mesh/inputs/sphere.zarr": "mesh",
    "mesh/inputs/axon.zarr": "mesh",
    "simulate/shards/0-of-2.zarr": "signals",
    "simulate/shards/1-of-2.zarr": "signals",
    "simulate/signals.zarr": "signals",
    "simulate/target.zarr": "target",
    "simulate/inputs/sphere.zarr": "signals",
    "simulate/inputs/axon.zarr": "signals",
    "reconstruct/shape_model.zarr": "shape_model",
    "reconstruct/reconstruction.zarr": "reconstruction",
    "synthesise/images.zarr": "images",
    "synthesise/score_model.zarr": "score_model",
    "synthesise/samples.zarr": "synthesis",
}


@contextmanager
def edited(path: Path, old: str, new: str) -> Iterator[None]:
    """The file with `old` replaced, put back afterwards."""
    text = path.read_text()
    assert old in text, f"{path} no longer contains {old!r}"
    path.write_text(text.replace(old, new))
    try:
        yield
    finally:
        path.write_text(text)


def test_killed_run_resumes_and_keeps_what_was_complete(run: Run) -> None:
    assert run.killed == -signal.SIGKILL
    assert run.resumed.returncode == 0, run.resumed.stdout
    assert run.before and times(run.workspace.results / "mesh/substrates.zarr") == run.before
    left = [p for p in run.workspace.results.rglob("*") if p.suffix in (".partial", ".old")]
    assert left == []


def test_killed_save_leaves_nothing_that_the_next_one_does_not_clear(tmp_path: Path) -> None:
    """SIGKILL between the writing of the store and its renaming, which no `finally` survives."""
    store = tmp_path / "mesh.zarr"
    script = (
        "import os, signal, sys\n"
        "from spinmesh import ball, save\n"
        "if sys.argv[2] == 'die':\n"
        "    os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "save(ball(5.0, 0), sys.argv[1])\n"
    )
    outcome = [
        subprocess.run([sys.executable, "-c", script, str(store), end], check=False).returncode
        for end in ("die", "live")
    ]
    assert outcome == [-signal.SIGKILL, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["mesh.zarr"]


def test_every_store_opens_and_describes_itself(run: Run) -> None:
    found = {p.relative_to(run.workspace.results).as_posix() for p in all_stores(run)}
    assert found == set(STORES)
    for name, schema in STORES.items():
        path = run.workspace.results / name
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            dataset = xr.open_zarr(path)
        assert dataset.attrs["schema"] == f"spinmesh/{schema}", path
        assert isinstance(dataset.attrs["schema_version"], int)
        assert dataset.attrs["seed"] == 7
        assert dataset.attrs["package_version"]
        assert re.fullmatch("[0-9a-f]{16}", dataset.attrs["config_digest"]), path
        for variable, array in dataset.variables.items():
            assert "units" in array.attrs, f"{path}: {variable}"


def test_every_array_names_its_axes_on_disk(run: Run) -> None:
    """In Zarr's own metadata, so that other readers than xarray see them."""
    count = 0
    for path in all_stores(run):
        for file in path.rglob("zarr.json"):
            metadata = json.loads(file.read_text())
            if metadata["node_type"] == "array":
                names = metadata.get("dimension_names", [])
                assert len(names) == len(metadata["shape"]), file
                assert all(isinstance(name, str) and name for name in names), file
                assert "units" in metadata["attributes"], file
                count += 1
    assert count > 3 * len(STORES), "some three arrays in a store at least"


def all_stores(run: Run) -> list[Path]:
    return sorted(run.workspace.results.rglob("*.zarr"))


def test_figures_and_summary_show_four_stages(run: Run) -> None:
    for name in ("mesh", "signals", "reconstruction", "synthesis"):
        content = (run.workspace.results / f"figures/{name}.png").read_bytes()
        assert content.startswith(b"\x89PNG"), name
        # An empty 1000 x 500 canvas compresses to some 5 kB.
        assert len(content) > 20_000, name
    lines = (run.workspace.results / "summary.txt").read_text().splitlines()
    stages = [line.split()[0] for line in lines if re.match(r"\w+ +[\d.]+ s ", line)]
    assert stages == ["mesh", "simulate", "reconstruct", "synthesise"]
    assert len(lines) <= 25, "one screen"
    assert "factor" in "\n".join(lines)


def test_second_run_does_nothing(run: Run) -> None:
    before = times(run.workspace.results)
    again = run.workspace.snakemake()
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout
    assert times(run.workspace.results) == before


@pytest.mark.parametrize(
    ("values", "planned"),
    [
        (
            {"reconstruct.iterations": 5},
            {"reconstruct_shape", "plot_reconstruction", "view", "summarise"},
        ),
        (
            {"reconstruct.shape_model.epochs": 51},
            RECONSTRUCT | {"view", "summarise"},
        ),
        (
            {"simulate.snr": 30.0},
            {
                "simulate_target",
                "plot_signals",
                "reconstruct_shape",
                "plot_reconstruction",
                "view",
                "summarise",
            },
        ),
        (
            # Neither the inputs nor the target are drawn from the ranges.
            {"mesh.ranges.radius_um": [1.5, 2.4]},
            {"sample_substrates", "simulate_shard", "gather_signals", "view", "summarise"}
            | RECONSTRUCT
            | SYNTHESISE
            | FIGURES,
        ),
        (
            {"synthesise.samples.steps": 9},
            {"synthesise_images", "plot_synthesis", "view", "summarise"},
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_changed_value_reruns_what_depends_on_it(
    run: Run, values: dict[str, Any], planned: set[str]
) -> None:
    assert run.workspace.plan(run.workspace.with_values(values)) == planned


def test_changed_statement_of_the_search_reruns_the_search_alone(run: Run) -> None:
    source = run.workspace.root / "src/spinmesh/inversion/descent.py"
    with edited(source, "damping *= 4", "damping *= 5"):
        assert run.workspace.plan() == (RECONSTRUCT - {"train_shape_model"}) | {"view", "summarise"}


def test_changed_statement_of_a_sampler_draws_again_and_trains_nothing(run: Run) -> None:
    source = run.workspace.root / "src/spinmesh/scores/samplers.py"
    with edited(source, "0.5 * (slope", "0.4 * (slope"):
        assert run.workspace.plan() == {"synthesise_images", "plot_synthesis", "view", "summarise"}


def test_comments_and_docstrings_rerun_nothing(run: Run) -> None:
    """In every module, and in the rules that know them."""
    root = run.workspace.root
    documented = root / "src/spinmesh/inversion/target.py"
    texts = {path: path.read_text() for path in (root / "src").rglob("*.py")}
    for path, text in texts.items():
        path.write_text(text + "\n# A remark.\n")
    try:
        with edited(documented, '"""What is to be reconstructed', '"""That which is sought'):
            assert run.workspace.plan() == set()
    finally:
        for path, text in texts.items():
            path.write_text(text)


def test_a_damaged_store_is_removed_by_repair_and_made_again_by_the_next_run(
    run: Run, tmp_path: Path
) -> None:
    """With all that was made of it; put back afterwards with the times that it had."""
    store = run.workspace.results / "mesh/target.zarr"
    shutil.copytree(store, tmp_path / "target.zarr")
    chunk = min(path for path in store.glob("*/c/**/*") if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-1])
    done = CliRunner().invoke(app, ["repair", str(run.workspace.results)])
    assert "of stage `mesh`" in done.output
    assert f"target.zarr: {chunk.relative_to(store)} has changed" in done.output
    planned = run.workspace.plan()
    shutil.copytree(tmp_path / "target.zarr", store)
    assert {"make_target_mesh", "simulate_target", "reconstruct_shape"} <= planned
    assert not planned & {"sample_substrates", "simulate_shard", "train_shape_model"}
    assert run.workspace.plan() == set()


def test_with_packs_another_acquisition_is_replayed_and_no_mesh_is_touched(run: Run) -> None:
    values = {
        "run": "packs",
        "mesh.families": {"straight": 2},
        "simulate.basis": {"tolerance": 1e-2},
        "simulate.shards": 1,
        "simulate.packs": {"strongest_gradient_mt_per_m": 150.0, "longest_time_ms": 60.0},
    }
    shard = "results/packs/simulate/replayed/0-of-1.zarr"
    done = run.workspace.snakemake(shard, config=run.workspace.with_values(values))
    assert done.returncode == 0, done.stdout
    changed = run.workspace.with_values(values | {"acquisition.delta_ms": 7.0})
    assert run.workspace.plan(changed, shard) == {"replay_shard"}
