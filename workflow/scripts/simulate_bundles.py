from snakemake.iocontainers import Snakemake

from spinmesh.bundles import simulate_bundles
from spinmesh.io import save
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import Bundles, Images

snakemake: Snakemake
log_to(snakemake.log[0])
bundles = Bundles(**snakemake.params.bundles)
images = simulate_bundles(
    bundles.spec(Images(**snakemake.params.images)),
    bundles.acquisition(),
    snakemake.params.seed,
    int(snakemake.wildcards.shard),
    bundles.shards,
)
save(images, snakemake.output.images, Provenance(**snakemake.params.provenance))
