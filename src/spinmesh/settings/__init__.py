"""What a run may ask for: every option with its unit, default and meaning, checked before any job.

`python -m spinmesh.settings` prints the JSON schema that the workflow validates against. The
scientific packages are imported only by the methods that build their nouns, so that a workflow
starts without loading them.
"""

from spinmesh.settings.inputs import check_inputs
from spinmesh.settings.loading import (
    Config,
    json_schema,
    load_config,
    load_tissue,
    schema_text,
    validate_config,
)
from spinmesh.settings.mesh import Mesh
from spinmesh.settings.phantom import PhantomSettings
from spinmesh.settings.physics import AcquisitionSection, Simulate, TissueSection
from spinmesh.settings.reconstruct import Reconstruct
from spinmesh.settings.score_comparison import Evaluation, PointEvaluation
from spinmesh.settings.synthesise import BundleSettings, ImageSettings, Synthesise

__all__ = [
    "AcquisitionSection",
    "BundleSettings",
    "Config",
    "Evaluation",
    "ImageSettings",
    "Mesh",
    "PhantomSettings",
    "PointEvaluation",
    "Reconstruct",
    "Simulate",
    "Synthesise",
    "TissueSection",
    "check_inputs",
    "json_schema",
    "load_config",
    "load_tissue",
    "schema_text",
    "validate_config",
]
