from snakemake.iocontainers import Snakemake

from spinmesh.bundles import simulate_bundles
from spinmesh.io import save
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import BundleSettings, ImageSettings

snakemake: Snakemake
log_to(snakemake.log[0])
bundles = BundleSettings(**snakemake.params.bundles)
images = simulate_bundles(
    bundles,
    ImageSettings(**snakemake.params.images),
    snakemake.params.seed,
    int(snakemake.wildcards.shard),
    bundles.shards,
)
save(images, snakemake.output.images, Provenance(**snakemake.params.provenance))
