"""A posterior for every voxel, learnt from signals of endless axons and the water between them."""

from spinmesh.maps.kernels import Kernels, simulate_kernels
from spinmesh.maps.model import MapCalibration, MapModel, calibrate, train_posterior
from spinmesh.maps.volume import PosteriorMaps, posterior_maps
from spinmesh.maps.voxels import QUANTITIES, Voxels
