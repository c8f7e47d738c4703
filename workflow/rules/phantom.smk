# On demand: a diffusion series of a field of substrates, and a BIDS folder for any dMRI tool.
PHANTOM = f"{RESULTS}/phantom/phantom.zarr"
PHANTOM_BIDS = f"{RESULTS}/phantom/bids"
FIGURE_PHANTOM = f"{RESULTS}/figures/phantom.png"
PHANTOM_STORES = [PHANTOM, PHANTOM_BIDS]
PHANTOM_FILES = list((CONFIG.phantom.acquisition or CONFIG.acquisition).files().values())


rule simulate_phantom:
    input:
        substrates=SUBSTRATES,
        acquisition=PHANTOM_FILES,
    output:
        phantom=directory(PHANTOM),
    log:
        f"{LOGS}/simulate_phantom.log",
    benchmark:
        f"{TIMES}/phantom-simulate.tsv"
    conda:
        "../../envs/spinmesh.yaml"
    threads: 1
    params:
        **IMAGED_FIELD,
        provenance=provenance(SAMPLED, IMAGED_FIELD),
        code=DIGEST["phantom"],
    script:
        "../scripts/simulate_phantom.py"


rule write_phantom:
    input:
        phantom=PHANTOM,
    output:
        bids=directory(PHANTOM_BIDS),
    log:
        f"{LOGS}/write_phantom.log",
    benchmark:
        f"{TIMES}/phantom-write.tsv"
    conda:
        "../../envs/spinmesh.yaml"
    threads: 1
    params:
        label=CONFIG.phantom.label,
        code=DIGEST["phantom"],
    script:
        "../scripts/write_phantom.py"


rule plot_phantom:
    input:
        phantom=PHANTOM,
    output:
        figure=report(FIGURE_PHANTOM, category="5 phantom", caption="../report/phantom.rst"),
    log:
        f"{LOGS}/plot_phantom.log",
    benchmark:
        f"{TIMES}/phantom-plot.tsv"
    conda:
        "../../envs/spinmesh.yaml"
    threads: 1
    params:
        code=DIGEST["plot_phantom"],
    script:
        "../scripts/plot_phantom.py"
