"""From signal back to mesh: spectral shapes, a latent space, and Gauss-Newton in it."""

from spinmesh.inversion.judgement import (
    DESCRIPTION,
    Credibility,
    credibility,
    describe,
    describe_posterior,
    posterior_shapes,
)
from spinmesh.inversion.result import HISTORY, Fit, Gaussian, Posterior, Reconstruction, Samples
from spinmesh.inversion.search import reconstruct
from spinmesh.inversion.starts import nearest_training_shapes
from spinmesh.inversion.target import Target, refuse_other_protocol, simulate_target
from spinmesh.inversion.voxels import (
    VOXEL_NUMBERS,
    ShapeMaps,
    VoxelTargets,
    reconstruct_voxels,
)
