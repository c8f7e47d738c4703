# What every rule that runs a script has, said once and included last: a log, a table of the time it took,
# the software it runs in, and in `params.code` the digest of the code it runs: a changed statement reruns
# what depends on it, a changed comment nothing.
import os
import shlex
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.jobs import Job
from snakemake.logging import logger

import spinmesh
from spinmesh.progress import was_refused
from spinmesh.provenance import COMMAND, NUMERICS, code_digest

# A copy in site-packages would run, and no edit of src/ would change anything.
OURS = Path(str(workflow.current_basedir)).parents[1] / "src/spinmesh"
if OURS.is_dir() and not OURS.samefile(Path(spinmesh.__file__).parent):
    raise WorkflowError(
        f"spinmesh is imported from {Path(spinmesh.__file__).parent}, but this workflow's own is {OURS}. "
        "Run `make setup` (on a cluster: make setup EXTRAS=workflow,mesher,dev,slurm) and start "
        ".venv/bin/snakemake."
    )

# Jobs inherit it and write it into their stores.
files = " ".join(shlex.quote(os.path.relpath(file)) for file in workflow.configfiles)
snakefile = shlex.quote(os.path.relpath(workflow.main_snakefile))
prefix = workflow.storage_settings.default_storage_prefix
bucket = f"--default-storage-provider s3 --default-storage-prefix {prefix} " if prefix else ""
os.environ.setdefault(
    COMMAND, f"snakemake --cores all {bucket}--snakefile {snakefile} --configfile {files} --"
)

digest = cache(lambda script: code_digest(script, NUMERICS))

stages = {}
for made in workflow.rules:
    if made.script and not made.log:
        file = Path(made.snakefile)
        job = "-".join([made.name, *(f"{{{name}}}" for name in sorted(made.wildcard_names))])
        made.log_modifier = made.benchmark_modifier = made.output_modifier
        made.set_log(f"{LOGS}/{job}.log")
        stages[made.name] = file.stem if file.suffix else file.parent.name
        made.benchmark = f"{TIMES}/{stages[made.name]}/{job}.tsv"
        made.conda_env = "../../envs/spinmesh.yaml"
        made.set_params(code=lambda wildcards, script=file.parent / made.script: digest(script))

# On one machine as many jobs that ask for a GPU run at a time as it has cards for; --resources gpu=N
# overrules it. What a rule asks for is not lowered here: that there are fewer is said at start.
counts = [made.resources["gpu"] for made in workflow.rules if "gpu" in made.resources]
gpus = max((count.value for count in counts if not count.is_evaluable()), default=0)
if (
    gpus
    and workflow.local_exec
    and workflow.is_main_process
    and "gpu" not in workflow.global_resources
):
    from torch.cuda import device_count

    workflow.global_resources["gpu"] = max(gpus, device_count())

# For src/snakemake_logger_plugin_spinmesh, which draws the stages and estimates the time left.
reference = Path(str(workflow.current_basedir)) / "seconds.tsv"
logger.info("", extra={"stages": stages, "times": TIMES, "reference": str(reference)})

# As many restarts as the profile allows; none of a job that was refused its input. Snakemake has
# retries of rules only.
Job.restart_times = property(lambda job: 0 if was_refused(job.log) else job.rule.restart_times)
