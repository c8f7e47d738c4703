# What every rule that runs a script has, said once and included last: a log, a table of the time it took,
# the software it runs in, and in `params.code` the digest of the code it runs: a changed statement reruns
# what depends on it, a changed comment nothing.
from functools import cache
from pathlib import Path

from spinmesh.provenance import code_digest

# Packages whose version changes numbers.
NUMERICS = ("numpy", "scipy", "scikit-fem", "torch")
digest = cache(lambda script: code_digest(script, NUMERICS))

for made in workflow.rules:
    if made.script and not made.log:
        file = Path(made.snakefile)
        job = "-".join([made.name, *(f"{{{name}}}" for name in sorted(made.wildcard_names))])
        made.log_modifier = made.benchmark_modifier = made.output_modifier
        made.set_log(f"{LOGS}/{job}.log")
        stage = file.stem if file.suffix else file.parent.name
        made.benchmark = f"{TIMES}/{stage}/{job}.tsv"
        made.conda_env = "../../envs/spinmesh.yaml"
        made.set_params(code=lambda wildcards, script=file.parent / made.script: digest(script))
