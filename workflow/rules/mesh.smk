# Stage 1: a table of substrates, and the shape to be found again.
SUBSTRATES = f"{RESULTS}/mesh/substrates.zarr"
TARGET_MESH = f"{RESULTS}/mesh/target.zarr"
FIGURE_MESH = f"{RESULTS}/figures/mesh.png"
MESH_STORES = [SUBSTRATES, TARGET_MESH]


rule sample_substrates:
    output:
        substrates=directory(SUBSTRATES),
    threads: 4
    resources:
        **needs(2, 60),
    params:
        **made_by(SAMPLED),
    script:
        "../scripts/sample_substrates.py"


rule make_target_mesh:
    output:
        mesh=directory(TARGET_MESH),
    resources:
        **needs(2, 10),
    params:
        **made_by(TARGETED),
    script:
        "../scripts/make_target_mesh.py"


rule plot_meshes:
    input:
        substrates=SUBSTRATES,
        target=TARGET_MESH,
    output:
        figure=report(FIGURE_MESH, category="1 mesh", caption="../report/mesh.rst"),
    script:
        "../scripts/plot_meshes.py"
