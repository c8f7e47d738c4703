"""Every input file of a run, read before anything is computed."""

from __future__ import annotations

from spinmesh.inputs.building import labels_before
from spinmesh.io.acquisitions import read_acquisition
from spinmesh.io.targets import read_target, read_voxels
from spinmesh.settings import Config
from spinmesh.tissue import Tissue


def check_inputs(config: Config) -> None:
    """Read every input file of a run, build its tissues, and let their errors out."""
    acquisition = read_acquisition(**config.acquisition.model_dump())
    tissue = Tissue.from_settings(config.tissue)
    for entry in config.mesh.inputs:
        filling = tissue if entry.tissue is None else Tissue.from_settings(entry.tissue)
        filling.filling(labels_before(entry))
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
