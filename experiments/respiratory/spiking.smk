# Spiking networks at few bits: digits, and what is heard in a respiratory cycle. Each bit width is a job.
TASKS = ("digits", "events")
FULL = 32
SPIKING_TABLE = f"{RESULTS}/spiking.csv"
SPIKING_FIGURE = f"{RESULTS}/figures/spiking.png"
SPIKES = RESULTS + "/spiking/{task}.zarr"
ABLATION = RESULTS + "/spiking/{task}_{bits}.zarr"
TRAINED = made_by(spiking=CONFIG.spiking.model_dump(exclude={"bits", "rate_steps", "step_db"}))


wildcard_constraints:
    task="|".join(TASKS),
    bits=r"\d+",


ruleorder: train_full_precision > train_at_bits


rule digit_spikes:
    output:
        spikes=directory(SPIKES.format(task="digits")),
    params:
        **made_by(steps=CONFIG.spiking.rate_steps),
        seed=CONFIG.seed,
    script:
        "scripts/digit_spikes.py"


rule event_spikes:
    input:
        cycles=CYCLES,
    output:
        spikes=directory(SPIKES.format(task="events")),
    params:
        **made_by(step_db=CONFIG.spiking.step_db),
    script:
        "scripts/event_spikes.py"


rule train_full_precision:
    input:
        spikes=SPIKES,
    output:
        ablation=directory(ABLATION.replace("{bits}", str(FULL))),
    resources:
        **needs(2, 60, CONFIG.device),
    params:
        **TRAINED,
        seed=CONFIG.seed,
        device=CONFIG.device,
    script:
        "scripts/train_full_precision.py"


rule train_at_bits:
    input:
        spikes=SPIKES,
        full=ABLATION.replace("{bits}", str(FULL)),
    output:
        ablation=directory(ABLATION),
    resources:
        **needs(2, 60, CONFIG.device),
    params:
        **TRAINED,
        seed=CONFIG.seed,
        device=CONFIG.device,
    script:
        "scripts/train_at_bits.py"


rule tabulate_spiking:
    input:
        ablations=expand(ABLATION, task=TASKS, bits=(FULL, *CONFIG.spiking.bits)),
    output:
        table=report(SPIKING_TABLE, category="spiking"),
        figure=report(SPIKING_FIGURE, category="spiking", caption="report/spiking.rst"),
    script:
        "scripts/tabulate_spiking.py"
