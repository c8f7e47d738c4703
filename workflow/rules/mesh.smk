# Stage 1: a table of substrates, the shape to be found again, and the user's own mesh.
SUBSTRATES = f"{RESULTS}/mesh/substrates.zarr"
TARGET_MESH = f"{RESULTS}/mesh/target.zarr"
USER_MESH = f"{RESULTS}/mesh/user.zarr" if CONFIG.mesh.user_mesh else []
FIGURE_MESH = f"{RESULTS}/figures/mesh.png"
MESH_STORES = [SUBSTRATES, TARGET_MESH, USER_MESH]


rule sample_substrates:
    output:
        substrates=directory(SUBSTRATES),
    params:
        **made_by(SAMPLED),
    script:
        "../scripts/sample_substrates.py"


rule make_target_mesh:
    output:
        mesh=directory(TARGET_MESH),
    params:
        **made_by(TARGETED),
    script:
        "../scripts/make_target_mesh.py"


rule read_user_mesh:
    input:
        mesh=CONFIG.mesh.user_mesh.path if CONFIG.mesh.user_mesh else [],
    output:
        mesh=directory(f"{RESULTS}/mesh/user.zarr"),
    params:
        **made_by(USER),
    script:
        "../scripts/read_user_mesh.py"


rule plot_meshes:
    input:
        substrates=SUBSTRATES,
        target=TARGET_MESH,
        user=USER_MESH,
    output:
        figure=report(FIGURE_MESH, category="1 mesh", caption="../report/mesh.rst"),
    script:
        "../scripts/plot_meshes.py"
