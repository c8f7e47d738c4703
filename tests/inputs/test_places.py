"""Where a run is to write and compute is asked before any job is sent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spinmesh.errors import ConfigError, MachineError, StoreError
from spinmesh.inputs.checking import check_places, check_stores
from spinmesh.io import save
from spinmesh.mesh import ball
from spinmesh.provenance import Provenance

PARTITIONS = "partitions:\n  cpu: {max_runtime: 24h}\n  gpu: {max_gpu: 4}\n"


@pytest.fixture
def partitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile's table, and a cluster that has both of its partitions."""
    program = tmp_path / "bin/sinfo"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nprintf 'cpu\\ngpu\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    table = tmp_path / "partitions.yaml"
    table.write_text(PARTITIONS)
    return table


def test_a_partition_that_the_cluster_lacks_is_named(partitions: Path, tmp_path: Path) -> None:
    check_places(tmp_path, {"train": 4}, False, partitions)
    partitions.write_text(PARTITIONS + "  long:\n  far: {cluster: other}\n")
    with pytest.raises(ConfigError, match=r"partition long is not of this .* has cpu, gpu\. Cor"):
        check_places(tmp_path, {}, False, partitions)
    partitions.write_text("partitions: 3")
    with pytest.raises(StoreError, match=r"partitions\.yaml: cannot be read as table of part"):
        check_places(tmp_path, {}, False, partitions)


def test_a_gpu_needs_a_partition_that_has_one(partitions: Path, tmp_path: Path) -> None:
    partitions.write_text("partitions:\n  cpu: {max_gpu: 0}\n")
    check_places(tmp_path, {}, False, partitions)
    with pytest.raises(ConfigError, match=r"no partition has 1 GPUs .*which simulate asks for"):
        check_places(tmp_path, {"simulate": 1}, False, partitions)
    partitions.write_text(PARTITIONS)
    with pytest.raises(ConfigError, match=r"has 5 GPUs .*which simulate, train asks"):
        check_places(tmp_path, {"simulate": 1, "train": 5}, False, partitions)


def test_slurm_that_does_not_answer_is_told(
    partitions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match=r"Slurm does not answer.*sinfo"):
        check_places(tmp_path, {}, False, partitions)


def test_a_folder_below_a_file_or_a_broken_link_is_told(tmp_path: Path) -> None:
    """The folder itself need not be there yet."""
    check_places(tmp_path / "results/run", {}, True, None)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(MachineError, match=rf"{name}: cannot be written"):
            check_places(tmp_path / name / "run", {}, True, None)


def test_a_store_of_another_configuration_is_told(tmp_path: Path) -> None:
    store = str(tmp_path / "mesh.zarr")
    save(ball(5.0, 0), store, Provenance(config_digest="one"))
    check_stores({store: "one", str(tmp_path / "gone.zarr"): "two", "mesh.vtu": "two"})
    with pytest.raises(StoreError, match=r"another configuration \(digest one, now two\)\. Delete"):
        check_stores({store: "two"})
