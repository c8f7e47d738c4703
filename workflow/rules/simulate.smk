# Stage 2: complex signals of every substrate, in shards; of the target, with noise.
SIGNALS = f"{RESULTS}/simulate/signals.zarr"
TARGET = f"{RESULTS}/simulate/target.zarr"
FIGURE_SIGNALS = f"{RESULTS}/figures/signals.png"
SIMULATE_STORES = [SIGNALS, TARGET]
SHARDS = CONFIG.simulate.shards
SIMULATED_SHARD = f"{RESULTS}/simulate/shards/{{shard}}-of-{SHARDS}.zarr"
REPLAYED_SHARD = f"{RESULTS}/simulate/replayed/{{shard}}-of-{SHARDS}.zarr"
SIGNAL_SHARD = REPLAYED_SHARD if CONFIG.simulate.packs else SIMULATED_SHARD
ACQUISITION_FILES = local([*CONFIG.acquisition.files().values()])


rule simulate_shard:
    input:
        substrates=SUBSTRATES,
        acquisition=ACQUISITION_FILES,
    output:
        signals=directory(SIMULATED_SHARD),
    resources:
        **needs(3, 60, CONFIG.simulate.device),
    params:
        **made_by(SIMULATED, SAMPLED),
    script:
        "../scripts/simulate_shard.py"


# With `simulate.packs`: reduced models that no acquisition changes, and the signals from them.
rule reduce_shard:
    input:
        substrates=SUBSTRATES,
    output:
        pack=directory(f"{RESULTS}/simulate/packs/{{shard}}-of-{SHARDS}.zarr"),
    resources:
        **needs(3, 60),
    params:
        **made_by(REDUCED, SAMPLED),
    script:
        "../scripts/reduce_shard.py"


rule replay_shard:
    input:
        pack=rules.reduce_shard.output.pack,
        acquisition=ACQUISITION_FILES,
    output:
        signals=directory(REPLAYED_SHARD),
    resources:
        **needs(3, 30, CONFIG.simulate.device),
    params:
        **made_by(REPLAYED, SAMPLED, REDUCED),
    script:
        "../scripts/replay_shard.py"


rule gather_signals:
    input:
        shards=expand(SIGNAL_SHARD, shard=range(SHARDS)),
    output:
        signals=directory(SIGNALS),
    resources:
        **needs(2, 30),
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
    resources:
        **needs(4, 60),
    params:
        **made_by(TARGET_SIMULATED, TARGETED),
    script:
        "../scripts/simulate_target.py"


rule plot_signals:
    input:
        signals=SIGNALS,
        substrates=SUBSTRATES,
        target=TARGET,
    output:
        figure=report(FIGURE_SIGNALS, category="2 simulate", caption="../report/signals.rst"),
    script:
        "../scripts/plot_signals.py"
