# The published experiment: every held-out shape by every method, and the five ablations.
PAPER = f"{RESULTS}/paper"
COMPARED_MODEL = f"{PAPER}/compared_model.zarr"
HELD_OUT_SIGNALS = f"{PAPER}/held_out.zarr"
ESTIMATES = [f"{PAPER}/estimates/{job}.zarr" for job in CONFIG.experiment.jobs()]
ABLATIONS = [f"{PAPER}/ablations/{name}.zarr" for name in CONFIG.experiment.ablations]
SCORE_TABLE = f"{PAPER}/scores.csv"
PAPER_TABLE = f"{PAPER}/table.csv"
FIGURE_PAPER = f"{RESULTS}/figures/paper.png"
FIGURE_ABLATIONS = f"{RESULTS}/figures/ablations.png"
PAPER_RESULTS = [SCORE_TABLE, PAPER_TABLE, FIGURE_PAPER, FIGURE_ABLATIONS]


rule train_compared_model:
    input:
        substrates=SUBSTRATES,
    output:
        model=directory(COMPARED_MODEL),
    log:
        f"{LOGS}/train_compared_model.log",
    benchmark:
        f"{TIMES}/paper-train_compared_model.tsv"
    conda:
        "../../envs/spinmesh.yaml"
    threads: 1
    params:
        **COMPARED,
        provenance=provenance(SAMPLED, COMPARED),
        code=DIGEST["reconstruct"],
    script:
        "../scripts/train_shape_model.py"


rule simulate_held_out_shard:
    input:
        substrates=SUBSTRATES,
        acquisition=ACQUISITION_FILES,
    output:
        signals=directory(f"{PAPER}/held_out/{{shard}}-of-{SHARDS}.zarr"),
    log:
        f"{LOGS}/simulate_held_out_shard/{{shard}}.log",
    benchmark:
        f"{TIMES}/paper-held_out-{{shard}}.tsv"
    conda:
        "../../envs/spinmesh.yaml"
    threads: 1
    params:
        **HELD_OUT,
        **part("mesh", "template"),
        shards=SHARDS,
        provenance=provenance(SAMPLED, HELD_OUT),
        code=DIGEST["held_out"],
    script:
        "../scripts/simulate_held_out_shard.py"


rule gather_held_out:
    input:
        shards=expand(rules.simulate_held_out_shard.output.signals, shard=range(SHARDS)),
    output:
        signals=directory(HELD_OUT_SIGNALS),
    log:
        f"{LOGS}/gather_held_out.log",
    benchmark:
        f"{TIMES}/paper-gather_held_out.tsv"
    conda:
        "../../envs/spinmesh.yaml"
    threads: 1
    params:
        provenance=provenance(SAMPLED, HELD_OUT),
        code=DIGEST["held_out"],
    script:
        "../scripts/gather_signals.py"


rule reconstruct_held_out:
    input:
        substrates=SUBSTRATES,
        signals=SIGNALS,
        held_out=HELD_OUT_SIGNALS,
        model=SHAPE_MODEL,
        compared=COMPARED_MODEL,
    output:
        estimates=directory(f"{PAPER}/estimates/{{arm}}/{{chunk}}-of-{{chunks}}.zarr"),
    log:
        f"{LOGS}/reconstruct_held_out/{{arm}}/{{chunk}}-of-{{chunks}}.log",
    benchmark:
        f"{TIMES}/paper-{{arm}}-{{chunk}}-of-{{chunks}}.tsv"
    conda:
        "../../envs/spinmesh.yaml"
    threads: 1
    params:
        **RECONSTRUCTED,
        descents=CONFIG.experiment.descents,
        arm=lambda wildcards: CONFIG.experiment.arms()[wildcards.arm],
        chunk=lambda wildcards: int(wildcards.chunk),
        chunks=lambda wildcards: int(wildcards.chunks),
        provenance=provenance(SAMPLED, SIMULATED, HELD_OUT, LEARNED, COMPARED, RECONSTRUCTED),
        code=DIGEST["paper"],
    script:
        "../scripts/reconstruct_held_out.py"


rule ablate:
    input:
        substrates=SUBSTRATES,
        signals=SIGNALS,
        model=SHAPE_MODEL,
    output:
        estimates=directory(f"{PAPER}/ablations/{{name}}.zarr"),
    log:
        f"{LOGS}/ablate/{{name}}.log",
    benchmark:
        f"{TIMES}/paper-ablate-{{name}}.tsv"
    conda:
        "../../envs/spinmesh.yaml"
    threads: 1
    params:
        **(RECONSTRUCTED | HELD_OUT | part("mesh", "template")),
        provenance=provenance(SAMPLED, SIMULATED, HELD_OUT, LEARNED, RECONSTRUCTED),
        code=DIGEST["paper"],
    script:
        "../scripts/ablate.py"


rule tabulate_paper:
    input:
        estimates=ESTIMATES,
        ablations=ABLATIONS,
        model=SHAPE_MODEL,
    output:
        scores=SCORE_TABLE,
        table=report(PAPER_TABLE, category="paper", caption="../report/paper_table.rst"),
    log:
        f"{LOGS}/tabulate_paper.log",
    conda:
        "../../envs/spinmesh.yaml"
    threads: 4
    params:
        code=DIGEST["paper"],
    script:
        "../scripts/tabulate_paper.py"


rule plot_paper:
    input:
        scores=SCORE_TABLE,
    output:
        figure=report(FIGURE_PAPER, category="paper", caption="../report/paper.rst"),
        ablations=report(FIGURE_ABLATIONS, category="paper", caption="../report/ablations.rst"),
    log:
        f"{LOGS}/plot_paper.log",
    conda:
        "../../envs/spinmesh.yaml"
    threads: 1
    params:
        code=DIGEST["plot_paper"],
    script:
        "../scripts/plot_paper.py"
