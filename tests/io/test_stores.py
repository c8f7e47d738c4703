import json
import re
import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from typer.testing import CliRunner

from spinmesh.bloch_torrey import Signals
from spinmesh.bundles import ImageSet
from spinmesh.cli import app
from spinmesh.errors import MachineError, StoreError
from spinmesh.files.writing import complete_or_absent
from spinmesh.io import gather_shards, load, load_shards, rows_of_shard, save, store
from spinmesh.learning import Checkpoint
from spinmesh.mesh import Substrates, SweptDisk, TetMesh, ball, sample_substrates, swept_disk
from spinmesh.provenance import Provenance
from spinmesh.sequence import Acquisition
from spinmesh.stored import Schema


def substrates():
    template = swept_disk(SweptDisk(rings=1, layers=3, radius_um=2.0, length_um=9.0))
    families, split = {"straight": 2, "beading": 2}, {"train": 0.5, "test": 0.5}
    return sample_substrates(template, families, {"radius": (1.0, 2.0)}, split, 0)


def signals():
    direction = [[0.0, 0, 0], [1, 0, 0], [0, 0, 1]]
    acquisition = Acquisition.pgse([0.0, 1.0, 3.0], direction, 8.0, [19.0, 19.0, 49.0])
    signal = torch.tensor([[1.0, 0.5 + 0.1j, 0.2j]], dtype=torch.complex128)
    return Signals(acquisition, signal, torch.ones(1, 3, dtype=torch.float64))


def test_a_mesh_comes_back_bit_for_bit(tmp_path):
    mesh = ball(5.0, 1)
    save(mesh, tmp_path / "mesh.zarr")
    back = load(TetMesh, tmp_path / "mesh.zarr")
    assert torch.equal(back.points, mesh.points)
    assert torch.equal(back.tets, mesh.tets)
    assert (back.name, back.labels) == (mesh.name, (1,))


def test_a_table_comes_back_with_its_words(tmp_path):
    table = substrates()
    save(table, tmp_path / "table.zarr")
    back = load(Substrates, tmp_path / "table.zarr")
    assert (back.family, back.split, back.names) == (table.family, table.split, table.names)
    assert torch.equal(back.points, table.points)


def test_signals_come_back_complex_with_their_acquisition(tmp_path):
    save(signals(), tmp_path / "signals.zarr")
    back = load(Signals, tmp_path / "signals.zarr")
    assert torch.equal(back.signal, signals().signal)
    assert torch.equal(back.acquisition.b_value, signals().acquisition.b_value)


def test_xarray_opens_a_store_without_a_warning_and_every_array_has_units(tmp_path):
    path = tmp_path / "table.zarr"
    save(substrates(), path, Provenance(7, "abc"))
    (path / ".snakemake_timestamp").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = xr.open_zarr(path)
    assert json.loads((path / "zarr.json").read_text())["zarr_format"] == 3
    assert all("units" in variable.attrs for variable in dataset.variables.values())
    assert dataset["parameters"].dims == ("substrate", "parameter")
    wanted = {"schema": "spinmesh/substrates", "schema_version": 3, "seed": 7}
    wanted |= {"config_digest": "abc"}
    assert wanted.items() <= dataset.attrs.items()
    assert "package_version" in dataset.attrs


def test_another_schema_or_version_names_the_stage_to_rerun(tmp_path, monkeypatch):
    save(ball(5.0, 0), tmp_path / "mesh.zarr")
    with pytest.raises(StoreError, match=r"holds spinmesh/mesh version 1.*Rerun stage `simulate`"):
        load(Signals, tmp_path / "mesh.zarr")
    monkeypatch.setattr(TetMesh, "__store__", Schema("spinmesh/mesh", 2, "mesh"))
    with pytest.raises(StoreError, match=r"version 1, but .* version 2 is needed.*`mesh`"):
        load(TetMesh, tmp_path / "mesh.zarr")


@pytest.mark.parametrize("damage", ["missing", "has changed"])
def test_a_store_that_lost_or_changed_a_file_is_refused(tmp_path, damage):
    path = tmp_path / "mesh.zarr"
    save(ball(5.0, 1), path)
    chunk = next(file for file in path.glob("points/c/**/*") if file.is_file())
    if damage == "missing":
        chunk.unlink()
    else:
        chunk.write_bytes(chunk.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match=damage.split(maxsplit=1)[0]):
        load(TetMesh, path)


@pytest.fixture
def in_small_chunks(monkeypatch):
    """Chunks of four small images, and gathers that hold little more."""
    monkeypatch.setattr(store, "CHUNK", 128)
    monkeypatch.setattr(store, "GATHERED", 600)


def image_set(count: int) -> ImageSet:
    """Images told apart by their grey level; the last ones are held out."""
    level = torch.arange(count) / count
    words = ["train"] * (count - 2) + ["test"] * 2
    picture, columns = level[:, None, None].expand(-1, 2, 4).clone(), level[:, None].repeat(1, 3)
    return ImageSet(picture, columns, level, tuple(words), 20.0)


def test_some_rows_are_read_and_only_their_chunks_are_checked(tmp_path, in_small_chunks):
    """A job of a large table pays for its own part, and damage elsewhere does not stop it."""
    path, whole = tmp_path / "images.zarr", image_set(9)
    save(whole, path)
    assert len(list(path.glob("images/c/*/0/0"))) == 3  # four rows of 32 bytes each
    for rows in (slice(1, None, 4), [7, 0], slice(8, 99)):
        part = load(ImageSet, path, image=rows)
        assert torch.equal(part.images, whole.images[rows])
        assert part.split == whole.chosen(range(9)[rows] if isinstance(rows, slice) else rows).split
    (path / "images/c/1/0/0").write_bytes(b"x")
    assert len(load(ImageSet, path, image=[3, 8])) == 2
    for rows in ({}, {"image": [4]}):
        with pytest.raises(StoreError, match=r"images/c/1/0/0 has changed"):
            load(ImageSet, path, **rows)
    (path / "volume_fraction/zarr.json").unlink()
    with pytest.raises(StoreError, match=r"zarr.json is missing"):
        load(ImageSet, path, image=[3])


@pytest.mark.parametrize("count", [1, 2, 7, 23])
def test_shards_are_gathered_a_few_rows_at_a_time(tmp_path, in_small_chunks, count):
    """Every row in its place, words that only one shard has, and one acquisition or setting."""
    whole, paths = image_set(count + 4), []
    for number in range(3):
        paths.append(tmp_path / f"{number}.zarr")
        save(whole.chosen(range(len(whole))[rows_of_shard(str(number), 3)]), paths[-1])
    gather_shards(ImageSet, paths, "image", tmp_path / "whole.zarr", Provenance(3, "abc"))
    back, at_once = load(ImageSet, tmp_path / "whole.zarr"), load_shards(ImageSet, paths, "image")
    for images in (back, at_once):
        assert torch.equal(images.images, whole.images)
        assert torch.equal(images.condition, whole.condition)
        assert images.split == whole.split
        assert images.field_of_view == 20.0
    assert store.attributes_of(tmp_path / "whole.zarr")["seed"] == 3
    (paths[1] / "images/zarr.json").write_text("{}")
    with pytest.raises(StoreError, match=r"1.zarr: images/zarr.json has changed"):
        gather_shards(ImageSet, paths, "image", tmp_path / "whole.zarr")
    assert torch.equal(load(ImageSet, tmp_path / "whole.zarr").images, whole.images)


def test_no_store_says_which_stage_to_run(tmp_path):
    with pytest.raises(StoreError, match=r"First run stage `mesh` \(make run\)\."):
        load(TetMesh, tmp_path / "nothing.zarr")


def test_a_write_that_fails_leaves_nothing_and_keeps_what_was_there(tmp_path):
    target = tmp_path / "store"
    with complete_or_absent(target) as partial:
        partial.mkdir()
        (partial / "old").touch()
    with pytest.raises(ZeroDivisionError), complete_or_absent(target) as partial:
        partial.mkdir()
        (partial / "half").touch()
        1 / 0  # noqa: B018
    assert [p.name for p in tmp_path.iterdir()] == ["store"]
    assert [p.name for p in target.iterdir()] == ["old"]


def test_values_are_little_endian_doubles_for_other_readers(tmp_path):
    save(signals(), tmp_path / "s.zarr")
    dataset = xr.open_zarr(tmp_path / "s.zarr")
    assert dataset["signal"].dtype == np.complex128
    assert dataset["acquisition.b_value"].attrs["units"] == "ms/um^2"


def test_repair_removes_what_is_damaged_and_nothing_else(tmp_path):
    """Stage and file are named; a checkpoint and what a killed writer left count too."""
    run = tmp_path / "demo"
    (run / "logs").mkdir(parents=True)
    for name in ("mesh/whole", "mesh/flipped", "simulate/shards/cut", "simulate/headless"):
        save(ball(5.0, 1), run / f"{name}.zarr")
    for name in ("good", "bad"):
        Checkpoint(run / f"synthesise/{name}.checkpoint").write({"weights": torch.zeros(99)})
    chunk = run / "mesh/flipped.zarr/points/c/0/0"
    chunk.write_bytes(bytes([chunk.read_bytes()[0] ^ 1]) + chunk.read_bytes()[1:])
    (run / "simulate/shards/cut.zarr/tets/c/0/0").unlink()
    (run / "simulate/headless.zarr/zarr.json").unlink()
    state = run / "synthesise/bad.checkpoint"
    state.write_bytes(state.read_bytes()[:-99])
    (run / "mesh/.whole.zarr.12345678.partial/whole.zarr").mkdir(parents=True)
    xr.Dataset().to_zarr(run / "foreign.zarr", zarr_format=3, consolidated=False)

    done = CliRunner().invoke(app, ["repair", str(run)])
    assert done.exit_code == 0, done.output
    for words in (
        "of stage `mesh`: .*flipped.zarr: points/c/0/0 has changed",
        "of stage `simulate`: .*cut.zarr: tets/c/0/0 is missing",
        "of stage `simulate`: .*headless.zarr",
        "of stage `synthesise`: .*bad.checkpoint",
        "of stage `mesh`: .*partial: left by a writer",
        "demo: 5 removed",
    ):
        assert re.search(words, done.output), done.output
    left = [p.relative_to(run).as_posix() for end in ("zarr", "checkpoint", "partial")
            for p in run.rglob(f"*.{end}")]  # fmt: skip
    assert left == ["foreign.zarr", "mesh/whole.zarr", "synthesise/good.checkpoint"]
    assert "demo: 0 removed" in CliRunner().invoke(app, ["repair", str(run)]).output
    refused = CliRunner().invoke(app, ["repair", str(tmp_path)])
    assert isinstance(refused.exception, StoreError)


def test_a_memory_too_small_is_no_fault_of_the_store(tmp_path, monkeypatch):
    """It would have been refused for good, with the advice to delete it."""

    def full(*_):
        raise MemoryError

    save(ball(5.0, 0), tmp_path / "mesh.zarr")
    monkeypatch.setattr(store.codec, "decode", full)
    with pytest.raises(MachineError, match=r"mesh\.zarr: the memory is too small"):
        load(TetMesh, tmp_path / "mesh.zarr")
