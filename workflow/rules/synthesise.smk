# Stage 4: cross-sections of the substrates or packed bundles as images, a score model of them, new images.
BUNDLES = f"{RESULTS}/synthesise/bundles.zarr"
BUNDLE_SHARDS = CONFIG.synthesise.bundles.shards
BUNDLE_SHARD = f"{RESULTS}/synthesise/bundle_shards/{{shard}}-of-{BUNDLE_SHARDS}.zarr"
CUT_IMAGES = f"{RESULTS}/synthesise/images.zarr"
IMAGES = BUNDLES if CONFIG.synthesise.source == "bundles" else CUT_IMAGES
SCORE_MODEL = f"{RESULTS}/synthesise/score_model.zarr"
SYNTHESIS = f"{RESULTS}/synthesise/samples.zarr"
FIGURE_SYNTHESIS = f"{RESULTS}/figures/synthesis.png"
SYNTHESISE_STORES = [IMAGES, SCORE_MODEL, SYNTHESIS]


rule make_images:
    input:
        substrates=SUBSTRATES,
        signals=SIGNALS,
    output:
        images=directory(CUT_IMAGES),
    resources:
        **needs(4, 60),
    params:
        **made_by(IMAGED, SAMPLED, SIMULATED),
    script:
        "../scripts/make_images.py"


rule simulate_bundles:
    output:
        images=directory(BUNDLE_SHARD),
    resources:
        **needs(3, 60),
    params:
        **made_by(BUNDLED),
    script:
        "../scripts/simulate_bundles.py"


rule gather_bundles:
    input:
        shards=expand(BUNDLE_SHARD, shard=range(BUNDLE_SHARDS)),
    output:
        images=directory(BUNDLES),
    resources:
        **needs(2, 30),
    params:
        provenance=provenance(BUNDLED),
    script:
        "../scripts/gather_bundles.py"


rule train_score_model:
    input:
        images=IMAGES,
    output:
        model=directory(SCORE_MODEL),
    resources:
        **needs(8, 240, CONFIG.synthesise.device, CONFIG.synthesise.gpus),
    params:
        **made_by(SCORED, SAMPLED, SIMULATED, IMAGED),
        # Named by what it belongs to, so that a changed configuration starts afresh.
        checkpoint=f"{RESULTS}/synthesise/{config_digest((SCORED, SAMPLED, SIMULATED, BUNDLED))}.checkpoint",
    script:
        "../scripts/train_score_model.py"


rule synthesise_images:
    input:
        model=SCORE_MODEL,
        images=IMAGES,
    output:
        synthesis=directory(SYNTHESIS),
    resources:
        **needs(4, 60),
    params:
        **made_by(DRAWN, SAMPLED, SIMULATED, IMAGED, SCORED),
    script:
        "../scripts/synthesise_images.py"


rule plot_synthesis:
    input:
        images=IMAGES,
        model=SCORE_MODEL,
        synthesis=SYNTHESIS,
    output:
        figure=report(FIGURE_SYNTHESIS, category="4 synthesise", caption="../report/synthesis.rst"),
    script:
        "../scripts/plot_synthesis.py"
