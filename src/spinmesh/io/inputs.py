"""The user's own files, read once before any job starts."""

from __future__ import annotations

from spinmesh.io.acquisitions import read_acquisition
from spinmesh.io.meshes import read_mesh
from spinmesh.io.targets import read_target, read_voxels
from spinmesh.settings import Config
from spinmesh.tissue import Tissue


def check_inputs(config: Config) -> None:
    """Read every input file of a run and let its errors out: acquisition, user mesh, signal."""
    acquisition = read_acquisition(**config.acquisition.model_dump())
    if config.mesh.user_mesh is not None:
        mesh = read_mesh(**config.mesh.user_mesh.model_dump())
        Tissue.from_settings(config.user_tissue or config.tissue).filling(mesh.labels)
    if config.phantom.acquisition is not None:
        read_acquisition(**config.phantom.acquisition.model_dump())
    signal = config.reconstruct.signal
    if signal is not None:
        if signal.acquisition is not None:
            acquisition = read_acquisition(**signal.acquisition.model_dump())
        read_target(acquisition, **signal.single())
        scattered = signal.scattered()
        if scattered is not None:
            read_voxels(acquisition, **scattered)
