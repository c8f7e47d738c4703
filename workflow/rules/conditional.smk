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
    params:
        **made_by(JUDGED, BUNDLED, SCORED),
    script:
        "../scripts/evaluate_conditional.py"


rule plot_conditional:
    input:
        calibration=CALIBRATION,
    output:
        figure=report(
            FIGURE_CONDITIONAL, category="4 synthesise", caption="../report/conditional.rst"
        ),
    script:
        "../scripts/plot_conditional.py"
