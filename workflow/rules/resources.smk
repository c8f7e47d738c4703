# What a job asks a cluster for. Said of every rule that computes; the profile has the rest.
from snakemake.exceptions import WorkflowError

from spinmesh.errors import SpinmeshError


def needs(memory_gb, minutes, device="cpu", gpus=1):
    """Resources of a rule, more at each further attempt; GPUs of one node if the stage's key asks for them."""
    gpus = gpus if device == "cuda" else 0
    return {
        "mem_mb": lambda wildcards, attempt: attempt * memory_gb * 1000 * max(gpus, 1),
        "runtime": lambda wildcards, attempt: attempt * minutes,
        "gpu": gpus,
    } | ({"nodes": 1} if gpus > 1 else {})


def refuse_places(results):
    """End the run, before any job, if it cannot write, or has not the GPUs or partitions it asks for."""
    from spinmesh.inputs.checking import check_places

    asking = {
        job.rule.name: job.resources["gpu"]
        for job in workflow.dag.needrun_jobs()
        if job.resources.get("gpu")
    }
    partitions = getattr(workflow.executor_settings, "partition_config", None)
    try:
        check_places(results, asking, workflow.local_exec, partitions)
    except SpinmeshError as error:
        raise WorkflowError(f"{type(error).__name__}: {error}") from None
