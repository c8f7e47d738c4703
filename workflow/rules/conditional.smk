# Images given held-out signals: calibration and misfit, on demand and with `source: bundles` only.
CALIBRATION = f"{RESULTS}/synthesise/conditional.zarr"
CONDITIONAL_TABLE = f"{RESULTS}/synthesise/conditional.csv"
FIGURE_CONDITIONAL = f"{RESULTS}/figures/conditional.png"


rule evaluate_conditional:
    input:
        model=SCORE_MODEL,
        images=bundles_only(BUNDLES),
    output:
        calibration=directory(CALIBRATION),
        table=CONDITIONAL_TABLE,
    log:
        f"{LOGS}/evaluate_conditional.log",
    benchmark:
        f"{TIMES}/synthesise-conditional.tsv"
    conda:
        "../../envs/spinmesh.yaml"
    threads: 1
    params:
        **JUDGED,
        provenance=provenance(BUNDLED, SCORED, JUDGED),
        code=DIGEST["conditional"],
    script:
        "../scripts/evaluate_conditional.py"


rule plot_conditional:
    input:
        calibration=CALIBRATION,
    output:
        figure=report(
            FIGURE_CONDITIONAL, category="4 synthesise", caption="../report/conditional.rst"
        ),
    log:
        f"{LOGS}/plot_conditional.log",
    benchmark:
        f"{TIMES}/synthesise-plot_conditional.tsv"
    conda:
        "../../envs/spinmesh.yaml"
    threads: 1
    params:
        code=DIGEST["plot_conditional"],
    script:
        "../scripts/plot_conditional.py"
