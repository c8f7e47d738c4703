# One page on which everything is looked at, and one screen: what each stage took, its key number, and
# where its results are.
PAGE = f"{RESULTS}/view.html"
SUMMARY = f"{RESULTS}/summary.txt"
FIGURES = [FIGURE_MESH, FIGURE_SIGNALS, FIGURE_RECONSTRUCTION, FIGURE_SYNTHESIS]


rule view:
    input:
        MESH_STORES,
        SIMULATE_STORES,
        INPUT_STORES,
        RECONSTRUCT_STORES,
        SYNTHESISE_STORES,
    output:
        page=report(PAGE, category="page", caption="../report/view.rst"),
    resources:
        **needs(4, 30),
    script:
        "../scripts/write_view.py"


rule summarise:
    input:
        MESH_STORES,
        SIMULATE_STORES,
        INPUT_STORES,
        INPUT_FIGURES,
        RECONSTRUCT_STORES,
        SYNTHESISE_STORES,
        FIGURES,
        substrates=SUBSTRATES,
        signals=SIGNALS,
        reconstruction=RECONSTRUCTION,
        model=SHAPE_MODEL,
        truth=TRUTH,
        synthesis=SYNTHESIS,
    output:
        summary=report(SUMMARY, category="summary", caption="../report/summary.rst"),
    params:
        inputs=len(INPUTS),
        results=lambda wildcards: PLACE,
        times=lambda wildcards, output: f"{os.path.dirname(output.summary)}/times",
    script:
        "../scripts/summarise.py"
