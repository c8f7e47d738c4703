"""What is written is there whole or not at all, whoever else writes and however it ends."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from spinmesh.errors import MachineError
from spinmesh.files.writing import complete_or_absent
from spinmesh.io import load, save, write_text
from spinmesh.learning import Checkpoint
from spinmesh.mesh import TetMesh, ball


def test_a_writer_that_was_overtaken_places_nothing(tmp_path: Path) -> None:
    """What is left of its files would pass for a whole store, with zeros for what is gone."""
    path, second = tmp_path / "mesh.zarr", ball(4.0, 0)
    with (
        pytest.raises(MachineError, match="another program has begun to write it"),
        complete_or_absent(path) as partial,
    ):
        save(second, path)
        # As a library goes on: it makes the folder again that its next file is for.
        save(ball(5.0, 0), partial)
    assert torch.equal(load(TetMesh, path).points, second.points)
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_whose_files_vanish_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(MachineError, match="Run one of them at a time"),
        complete_or_absent(tmp_path / "text") as partial,
    ):
        write_text("second", tmp_path / "text")
        partial.write_text("first")
    assert (tmp_path / "text").read_text() == "second"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("a disk of its own cannot be mounted here; root can")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_and_a_protected_one_are_told_and_nothing_is_left(small_disk: Path) -> None:
    big = torch.zeros(10**5, dtype=torch.float64)
    mesh = ball(5.0, 4)
    writers = {
        "text": lambda path: write_text("x" * 10**5, path),
        "state": lambda path: Checkpoint(path, "run").write({"weights": big}),
        "mesh.zarr": lambda path: save(mesh, path),
    }
    for options, words in (("size=64k", "No space left"), ("ro", "Read-only")):
        remount = ["mount", "-o", f"remount,{options}", str(small_disk)]
        subprocess.run(remount, check=True)
        for name, write in writers.items():
            with pytest.raises(MachineError, match=rf"{name}: cannot be written \({words}"):
                write(small_disk / name)
            assert list(small_disk.iterdir()) == [], name
