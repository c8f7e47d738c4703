# Stage 4: cross-section images of the substrates, a score model of them, and new images.
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
    log:
        f"{LOGS}/make_images.log",
    benchmark:
        f"{TIMES}/synthesise-make_images.tsv"
    conda:
        "../../envs/spinmesh.yaml"
    threads: 1
    params:
        **IMAGED,
        provenance=provenance(SAMPLED, SIMULATED, IMAGED),
        code=DIGEST["synthesise"],
    script:
        "../scripts/make_images.py"


rule train_score_model:
    input:
        images=IMAGES,
    output:
        model=directory(SCORE_MODEL),
    log:
        f"{LOGS}/train_score_model.log",
    benchmark:
        f"{TIMES}/synthesise-train_score_model.tsv"
    conda:
        "../../envs/spinmesh.yaml"
    threads: 1
    params:
        **SCORED,
        checkpoint=f"{RESULTS}/synthesise/score_model.checkpoint",
        provenance=provenance(SAMPLED, SIMULATED, IMAGED, SCORED),
        code=DIGEST["synthesise"],
    script:
        "../scripts/train_score_model.py"


rule synthesise_images:
    input:
        model=SCORE_MODEL,
        images=IMAGES,
    output:
        synthesis=directory(SYNTHESIS),
    log:
        f"{LOGS}/synthesise_images.log",
    benchmark:
        f"{TIMES}/synthesise-images.tsv"
    conda:
        "../../envs/spinmesh.yaml"
    threads: 1
    params:
        **DRAWN,
        provenance=provenance(SAMPLED, SIMULATED, IMAGED, SCORED, DRAWN),
        code=DIGEST["synthesise"],
    script:
        "../scripts/synthesise_images.py"


rule plot_synthesis:
    input:
        images=IMAGES,
        model=SCORE_MODEL,
        synthesis=SYNTHESIS,
    output:
        figure=report(FIGURE_SYNTHESIS, category="4 synthesise", caption="../report/synthesis.rst"),
    log:
        f"{LOGS}/plot_synthesis.log",
    benchmark:
        f"{TIMES}/synthesise-plot.tsv"
    conda:
        "../../envs/spinmesh.yaml"
    threads: 1
    params:
        code=DIGEST["plot_synthesis"],
    script:
        "../scripts/plot_synthesis.py"
