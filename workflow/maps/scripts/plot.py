from snakemake.iocontainers import Snakemake

from spinmesh.io import load
from spinmesh.maps import MapCalibration, PosteriorMaps, Voxels
from spinmesh.progress import log_to
from spinmesh.report.volumes import plot_calibration, plot_maps

snakemake: Snakemake
log_to(snakemake.log[0])
plot_calibration(load(MapCalibration, snakemake.input.calibration), snakemake.output.coverage)
maps, truth = load(PosteriorMaps, snakemake.input.maps), load(Voxels, snakemake.input.truth)
plot_maps(maps, truth, snakemake.output.maps)
