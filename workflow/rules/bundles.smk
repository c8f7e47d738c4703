# Images of packed bundles with the signals of all their water, in shards: `source: bundles`.
BUNDLES = f"{RESULTS}/synthesise/bundles.zarr"
BUNDLE_SHARDS = CONFIG.synthesise.bundles.shards


rule simulate_bundles:
    output:
        images=directory(f"{RESULTS}/synthesise/bundle_shards/{{shard}}-of-{BUNDLE_SHARDS}.zarr"),
    log:
        f"{LOGS}/simulate_bundles/{{shard}}.log",
    benchmark:
        f"{TIMES}/synthesise-bundles-{{shard}}.tsv"
    conda:
        "../../envs/spinmesh.yaml"
    threads: 1
    params:
        **BUNDLED,
        provenance=provenance(BUNDLED),
        code=DIGEST["bundles"],
    script:
        "../scripts/simulate_bundles.py"


rule gather_bundles:
    input:
        shards=expand(rules.simulate_bundles.output.images, shard=range(BUNDLE_SHARDS)),
    output:
        images=directory(BUNDLES),
    log:
        f"{LOGS}/gather_bundles.log",
    benchmark:
        f"{TIMES}/synthesise-gather_bundles.tsv"
    conda:
        "../../envs/spinmesh.yaml"
    threads: 1
    params:
        provenance=provenance(BUNDLED),
        code=DIGEST["bundles"],
    script:
        "../scripts/gather_bundles.py"
