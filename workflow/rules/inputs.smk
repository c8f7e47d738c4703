# Shapes of the run's own: of each a mesh, a picture and signals; of all a table.
INPUT_MESH = f"{RESULTS}/mesh/inputs/{{input}}.zarr"
INPUT_PICTURE = f"{RESULTS}/figures/inputs/{{input}}.png"
INPUT_SIGNALS = f"{RESULTS}/simulate/inputs/{{input}}.zarr"
INPUT_SHARE = f"{RESULTS}/simulate/shares/{{input}}/{{job}}-of-{{jobs}}.zarr"
INPUT_TABLE = f"{RESULTS}/inputs.csv"
INPUT_STORES = expand([INPUT_MESH, INPUT_SIGNALS], input=INPUTS)
INPUT_FIGURES = [*expand(INPUT_PICTURE, input=INPUTS), INPUT_TABLE] if INPUTS else []


wildcard_constraints:
    input="[A-Za-z0-9][A-Za-z0-9._-]*",
    job=r"\d+",
    jobs=r"\d+",


rule mesh_input:
    input:
        lambda wildcards: local(INPUTS[wildcards.input].path),
    output:
        mesh=directory(INPUT_MESH),
    resources:
        **needs(8, 120),
    params:
        entry=lambda wildcards: meshed(wildcards)["entry"],
        provenance=lambda wildcards: provenance(meshed(wildcards)),
    script:
        "../scripts/mesh_input.py"


rule draw_input:
    input:
        mesh=INPUT_MESH,
    output:
        figure=report(
            INPUT_PICTURE,
            category="inputs",
            subcategory="pictures",
            labels={"input": "{input}"},
            caption="../report/inputs.rst",
        ),
    resources:
        **needs(4, 30),
    script:
        "../scripts/draw_input.py"


# Of an input that has several `jobs`: a store for each of them, of its part of the body's pieces.
rule simulate_share:
    input:
        mesh=INPUT_MESH,
        acquisition=ACQUISITION_FILES,
    output:
        signals=directory(INPUT_SHARE),
    resources:
        **needs(8, 120, CONFIG.simulate.device),
    params:
        filled=filled,
        provenance=lambda wildcards: provenance(meshed(wildcards), filled(wildcards)),
    script:
        "../scripts/simulate_share.py"


rule simulate_input:
    input:
        mesh=INPUT_MESH,
        acquisition=ACQUISITION_FILES,
        shares=shares,
    output:
        signals=directory(INPUT_SIGNALS),
        table=f"{RESULTS}/simulate/inputs/{{input}}.csv",
    resources:
        **needs(8, 120, CONFIG.simulate.device),
    params:
        filled=filled,
        provenance=lambda wildcards: provenance(meshed(wildcards), filled(wildcards)),
    script:
        "../scripts/simulate_input.py"


rule tabulate_inputs:
    input:
        meshes=expand(INPUT_MESH, input=INPUTS),
        signals=expand(INPUT_SIGNALS, input=INPUTS),
    output:
        table=report(INPUT_TABLE, category="inputs", caption="../report/inputs.rst"),
    params:
        files=[entry.path for entry in INPUTS.values()],
    script:
        "../scripts/tabulate_inputs.py"


onerror:
    # The table waits for all inputs; of those that are there it is made all the same.
    from spinmesh.inputs.gathering import show_what_is_there

    print(
        show_what_is_there(
            {name: entry.path for name, entry in INPUTS.items()},
            {"mesh": INPUT_MESH, "signals": INPUT_SIGNALS, "figure": INPUT_PICTURE},
            LOGS,
            INPUT_TABLE,
        )
    )
