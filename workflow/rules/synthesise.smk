# Stage 4: cross-section images of the substrates, a score model of them, and new images.
IMAGES = f"{RESULTS}/synthesise/images.zarr"
SCORE_MODEL = f"{RESULTS}/synthesise/score_model.zarr"
SYNTHESIS = f"{RESULTS}/synthesise/samples.zarr"
FIGURE_SYNTHESIS = f"{RESULTS}/figures/synthesis.png"
SYNTHESISE_STORES = [IMAGES, SCORE_MODEL, SYNTHESIS]


rule make_images:
    input:
        substrates=SUBSTRATES,
        signals=SIGNALS,
    output:
        images=directory(IMAGES),
    params:
        **IMAGED,
        provenance=provenance(SAMPLED, SIMULATED, IMAGED),
        code=DIGEST["synthesise"],
    log:
        f"{LOGS}/make_images.log",
    benchmark:
        f"{TIMES}/synthesise-make_images.tsv"
    threads: 1
    conda:
        "../../envs/spinmesh.yaml"
    script:
        "../scripts/make_images.py"


rule train_score_model:
    input:
        images=IMAGES,
    output:
        model=directory(SCORE_MODEL),
    params:
        **SCORED,
        checkpoint=f"{RESULTS}/synthesise/score_model.checkpoint",
        provenance=provenance(SAMPLED, SIMULATED, IMAGED, SCORED),
        code=DIGEST["synthesise"],
    log:
        f"{LOGS}/train_score_model.log",
    benchmark:
        f"{TIMES}/synthesise-train_score_model.tsv"
    threads: 1
    conda:
        "../../envs/spinmesh.yaml"
    script:
        "../scripts/train_score_model.py"


rule synthesise_images:
    input:
        model=SCORE_MODEL,
        images=IMAGES,
    output:
        synthesis=directory(SYNTHESIS),
    params:
        **DRAWN,
        provenance=provenance(SAMPLED, SIMULATED, IMAGED, SCORED, DRAWN),
        code=DIGEST["synthesise"],
    log:
        f"{LOGS}/synthesise_images.log",
    benchmark:
        f"{TIMES}/synthesise-images.tsv"
    threads: 1
    conda:
        "../../envs/spinmesh.yaml"
    script:
        "../scripts/synthesise_images.py"


rule plot_synthesis:
    input:
        images=IMAGES,
        model=SCORE_MODEL,
        synthesis=SYNTHESIS,
    output:
        figure=report(
            FIGURE_SYNTHESIS, category="4 synthesise", caption="../report/synthesis.rst"
        ),
    params:
        code=DIGEST["report"],
    log:
        f"{LOGS}/plot_synthesis.log",
    benchmark:
        f"{TIMES}/synthesise-plot.tsv"
    threads: 1
    conda:
        "../../envs/spinmesh.yaml"
    script:
        "../scripts/plot_synthesis.py"
