# On demand: a diffusion series of a field of substrates, and a BIDS folder for any dMRI tool.
PHANTOM = f"{RESULTS}/phantom/phantom.zarr"
PHANTOM_BIDS = f"{RESULTS}/phantom/bids"
FIGURE_PHANTOM = f"{RESULTS}/figures/phantom.png"
PAGE_PHANTOM = f"{RESULTS}/phantom/view.html"
PHANTOM_STORES = [PHANTOM, PHANTOM_BIDS]
PHANTOM_FILES = local([*(CONFIG.phantom.acquisition or CONFIG.acquisition).files().values()])


rule simulate_phantom:
    input:
        substrates=SUBSTRATES,
        acquisition=PHANTOM_FILES,
    output:
        phantom=directory(PHANTOM),
    resources:
        **needs(4, 120),
    params:
        **made_by(IMAGED_FIELD, SAMPLED),
    script:
        "../scripts/simulate_phantom.py"


rule write_phantom:
    input:
        phantom=PHANTOM,
    output:
        bids=directory(PHANTOM_BIDS),
    params:
        label=CONFIG.phantom.label,
    script:
        "../scripts/write_phantom.py"


rule plot_phantom:
    input:
        phantom=PHANTOM,
    output:
        figure=report(FIGURE_PHANTOM, category="5 phantom", caption="../report/phantom.rst"),
    script:
        "../scripts/plot_phantom.py"


rule view_phantom:
    input:
        PHANTOM,
    output:
        page=report(PAGE_PHANTOM, category="5 phantom", caption="../report/view.rst"),
    resources:
        **needs(4, 10),
    script:
        "../scripts/write_view.py"
