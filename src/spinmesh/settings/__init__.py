"""What a run may ask for: every option with its unit, default and meaning, checked before any job.

`python -m spinmesh.settings` prints the JSON schema that the workflow validates against. The
scientific packages are imported only by the methods that build their nouns, so that a workflow
starts without loading them.
"""

from spinmesh.settings.loading import (
    Config,
    json_schema,
    load_config,
    load_tissue,
    schema_text,
    validate_config,
)
from spinmesh.settings.mesh import Mesh, SweptDisk
from spinmesh.settings.phantom import PhantomSettings
from spinmesh.settings.physics import AcquisitionFiles, Basis, Simulate, TissueSettings
from spinmesh.settings.reconstruct import Free, Reconstruct, ShapeTraining
from spinmesh.settings.setting import Setting
from spinmesh.settings.synthesise import BundleSettings, ImageSettings, Synthesise

__all__ = [
    "AcquisitionFiles",
    "Basis",
    "BundleSettings",
    "Config",
    "Free",
    "ImageSettings",
    "Mesh",
    "PhantomSettings",
    "Reconstruct",
    "Setting",
    "ShapeTraining",
    "Simulate",
    "SweptDisk",
    "Synthesise",
    "TissueSettings",
    "json_schema",
    "load_config",
    "load_tissue",
    "schema_text",
    "validate_config",
]
