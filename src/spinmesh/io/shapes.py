"""A mesh inside a store that is encoded by hand; goes with `reconstructions`."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from spinmesh.mesh import TetMesh


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
