"""Tetrahedral meshes: the noun, the swept-disk template, and the families of shapes."""

from spinmesh.mesh.faces import oriented, outer_faces, sizes
from spinmesh.mesh.families import (
    FAMILIES,
    Substrates,
    checked,
    internal_values,
    rotation_matrix,
    sample_substrates,
    single_substrate,
    substrates_of,
)
from spinmesh.mesh.maps import PARAMETER_TABLE, PARAMETERS, deform, neutral_parameters
from spinmesh.mesh.packing import STATISTICS, Disks, gamma_radii, pack_disks
from spinmesh.mesh.plane import PeriodicPlane, mesh_plane
from spinmesh.mesh.solids import ball, nested_cylinder
from spinmesh.mesh.template import swept_disk
from spinmesh.mesh.tetmesh import (
    TET_EDGES,
    TET_FACES,
    TetMesh,
    check_quality,
    corner_volumes,
    jacobian_determinants,
    reference_nodes,
    shape_functions,
    tet_quality,
)
from spinmesh.settings import SweptDisk
