import json
import warnings

import numpy as np
import pytest
import torch
import xarray as xr

from spinmesh.bloch_torrey import Signals
from spinmesh.errors import StoreError
from spinmesh.io import load, save
from spinmesh.mesh import Substrates, SweptDisk, TetMesh, ball, sample_substrates, swept_disk
from spinmesh.provenance import Provenance
from spinmesh.sequence import Acquisition
from spinmesh.stored import Schema
from spinmesh.writing import complete_or_absent


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
    assert dataset["points"].dims == ("substrate", "point", "axis")
    wanted = {"schema": "spinmesh/substrates", "schema_version": 2, "seed": 7}
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
