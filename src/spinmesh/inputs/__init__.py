"""What users bring, read before anything is computed, and their tissue as tetrahedra."""

from spinmesh.inputs.building import build, check
from spinmesh.inputs.checking import check_inputs
