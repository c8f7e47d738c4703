"""What a run may ask for: every option with its unit, default and meaning, checked before any job.

`python -m spinmesh.config` prints the JSON schema that the workflow validates against. The
scientific packages are imported only by the methods that build their nouns, so that a workflow
starts without loading them.
"""

from spinmesh.config.evaluation import Evaluation, PointEvaluation
from spinmesh.config.experiment import Experiment
from spinmesh.config.imaging import PhantomSection
from spinmesh.config.inference import Bundles, Images, Reconstruct, Synthesise
from spinmesh.config.inputs import check_inputs
from spinmesh.config.loading import (
    Config,
    json_schema,
    load_config,
    load_tissue,
    schema_text,
    validate_config,
)
from spinmesh.config.physics import AcquisitionSection, Simulate, TissueSection
from spinmesh.config.shapes import Mesh

__all__ = [
    "AcquisitionSection",
    "Bundles",
    "Config",
    "Evaluation",
    "Experiment",
    "Images",
    "Mesh",
    "PhantomSection",
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
