"""What a run may ask for: every option with its unit, default and meaning, checked before any job.

Nothing of the science is imported here, so that a workflow starts without loading torch. The JSON
schema and docs/configuration.md are written from these classes by `make schema`.
"""

from spinmesh.settings.bundle import PackedBundle
from spinmesh.settings.loading import (
    Config,
    load_bundle,
    load_config,
    load_tissue,
    schema_text,
    validate_config,
)
from spinmesh.settings.mesh import Mesh, MeshInput, MeshOptions, SweptDisk
from spinmesh.settings.phantom import PhantomSettings
from spinmesh.settings.physics import AcquisitionFiles, Basis, Method, Simulate, TissueSettings
from spinmesh.settings.reconstruct import Free, Reconstruct, ShapeTraining
from spinmesh.settings.synthesise import BundleSettings, ImageSettings, Synthesise
