"""Stores of meshes and substrate tables."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from spinmesh.io.codec import text_codes, text_from
from spinmesh.io.store import Codec
from spinmesh.mesh import Substrates, TetMesh


def mesh_variables(mesh: TetMesh) -> dict[str, xr.Variable]:
    """The variables that hold a mesh inside any store."""
    return {
        "points": xr.Variable(("point", "axis"), mesh.points.numpy(), {"units": "um"}),
        "tets": xr.Variable(("tet", "node"), mesh.tets.numpy(), {"units": "1"}),
        "compartment": xr.Variable(("tet",), mesh.compartment.numpy(), {"units": "1"}),
    }


def mesh_from(dataset: xr.Dataset, name: str) -> TetMesh:
    """The mesh held by `mesh_variables`."""
    points, tets, compartment = (
        torch.from_numpy(np.array(dataset[key])) for key in ("points", "tets", "compartment")
    )
    return TetMesh(points, tets, compartment, name)


def _encode_mesh(mesh: TetMesh) -> xr.Dataset:
    return xr.Dataset(mesh_variables(mesh), attrs={"name": mesh.name})


def _decode_mesh(dataset: xr.Dataset) -> TetMesh:
    return mesh_from(dataset, dataset.attrs["name"])


def _encode_substrates(substrates: Substrates) -> xr.Dataset:
    variables = mesh_variables(substrates.template) | {
        "substrate_points": xr.Variable(
            ("substrate", "point", "axis"), substrates.points.numpy(), {"units": "um"}
        ),
        "parameters": xr.Variable(
            ("substrate", "parameter"),
            substrates.parameters.numpy(),
            {"units": "see attribute parameter_units", "parameters": list(substrates.names)},
        ),
        "family": text_codes("substrate", substrates.family),
        "split": text_codes("substrate", substrates.split),
    }
    return xr.Dataset(variables, attrs={"name": substrates.template.name})


def _decode_substrates(dataset: xr.Dataset) -> Substrates:
    return Substrates(
        template=mesh_from(dataset, dataset.attrs["name"]),
        points=torch.from_numpy(np.array(dataset["substrate_points"])),
        parameters=torch.from_numpy(np.array(dataset["parameters"])),
        names=tuple(dataset["parameters"].attrs["parameters"]),
        family=text_from(dataset["family"].variable),
        split=text_from(dataset["split"].variable),
    )


CODECS = (
    Codec(TetMesh, "spinmesh/mesh", 1, "mesh", _encode_mesh, _decode_mesh),
    Codec(Substrates, "spinmesh/substrates", 1, "mesh", _encode_substrates, _decode_substrates),
)
