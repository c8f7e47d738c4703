# Stage 2: complex signals of every substrate, in shards; of the target, with noise; of the user mesh.
SIGNALS = f"{RESULTS}/simulate/signals.zarr"
TARGET = f"{RESULTS}/simulate/target.zarr"
USER_SIGNALS = f"{RESULTS}/simulate/user.zarr" if CONFIG.mesh.user_mesh else []
FIGURE_SIGNALS = f"{RESULTS}/figures/signals.png"
SIMULATE_STORES = [SIGNALS, TARGET, USER_SIGNALS]
SHARDS = CONFIG.simulate.shards
USER_TISSUE = (CONFIG.user_tissue or CONFIG.tissue).model_dump()
ACQUISITION_FILES = list(CONFIG.acquisition.files().values())


rule simulate_shard:
    input:
        substrates=SUBSTRATES,
        acquisition=ACQUISITION_FILES,
    output:
        signals=directory(f"{RESULTS}/simulate/shards/{{shard}}-of-{SHARDS}.zarr"),
    params:
        **made_by(SIMULATED, SAMPLED),
    script:
        "../scripts/simulate_shard.py"


rule gather_signals:
    input:
        shards=expand(rules.simulate_shard.output.signals, shard=range(SHARDS)),
    output:
        signals=directory(SIGNALS),
    params:
        provenance=provenance(SAMPLED, SIMULATED),
    script:
        "../scripts/gather_signals.py"


rule simulate_target:
    input:
        mesh=TARGET_MESH,
        acquisition=ACQUISITION_FILES,
    output:
        target=directory(TARGET),
    params:
        **made_by(TARGET_SIMULATED, TARGETED),
    script:
        "../scripts/simulate_target.py"


rule simulate_user_mesh:
    input:
        mesh=f"{RESULTS}/mesh/user.zarr",
        acquisition=ACQUISITION_FILES,
    output:
        signals=directory(f"{RESULTS}/simulate/user.zarr"),
        table=f"{RESULTS}/simulate/user.csv",
    params:
        **SIMULATED,
        user_tissue=USER_TISSUE,
        provenance=provenance(USER, SIMULATED, USER_TISSUE),
    script:
        "../scripts/simulate_user_mesh.py"


rule plot_signals:
    input:
        signals=SIGNALS,
        substrates=SUBSTRATES,
        target=TARGET,
        user=USER_SIGNALS,
    output:
        figure=report(FIGURE_SIGNALS, category="2 simulate", caption="../report/signals.rst"),
    script:
        "../scripts/plot_signals.py"
