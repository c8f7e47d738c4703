# The configuration, checked before any job starts, and what every stage takes from it.
from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

from spinmesh.settings import validate_config
from spinmesh.errors import SpinmeshError
from spinmesh.files.places import place
from spinmesh.provenance import config_digest

# With --default-storage-provider s3 results are objects of a bucket; what a run reads lies here.
STORAGE = workflow.storage_settings.default_storage_prefix

try:
    CONFIG = validate_config(config)
    if STORAGE:
        # Snakemake would make a bucket that is not there, or answer with a traceback.
        place(STORAGE).is_dir()
except SpinmeshError as error:
    raise WorkflowError(f"{type(error).__name__}: {error}") from None
# Defaults come from the settings, which know the presets.
validate(config, "../schemas/config.schema.json", set_default=False)


onstart:
    # Not at a dry run: reading meshes takes seconds. An error here stops the run before any job.
    from spinmesh.inputs.checking import check_inputs, check_stores

    planned = set(workflow.dag.needrun_jobs())
    kept = [job for job in workflow.dag.jobs if job not in planned]
    try:
        check_inputs(CONFIG)
        check_stores(
            {
                (
                    store.storage_object.query if store.is_storage else store
                ): job.params.provenance["config_digest"]
                for job in kept
                if "provenance" in job.params.keys()
                for store in job.output
            }
        )
    except SpinmeshError as error:
        raise WorkflowError(f"{type(error).__name__}: {error}") from None
    refuse_places(PLACE)


RESULTS = f"results/{CONFIG.run}"
PLACE = f"{STORAGE.rstrip('/')}/{RESULTS}" if STORAGE else RESULTS
LOGS = f"{RESULTS}/logs"
TIMES = f"{RESULTS}/times"


def part(section, *names, **others):
    """Some keys of a section as plain values: a job reruns when these change, and only then."""
    plain = getattr(CONFIG, section).model_dump()
    return {section: {name: plain[name] for name in names or plain}, **others}


def provenance(*parts):
    """Seed, and digest of the parts of the configuration that a store depends on."""
    return {"seed": CONFIG.seed, "config_digest": config_digest(parts)}


def made_by(taken, *earlier):
    """Parameters of a rule: what it takes from the configuration, after what its inputs took."""
    return taken | {"provenance": provenance(*earlier, taken)}


# What each stage takes from the configuration, and through it all later ones.
SAMPLED = part("mesh", "template", "families", "ranges", "split", seed=CONFIG.seed)
TARGETED = part("mesh", "template", "target")
FILLED = part("tissue") | part("acquisition")
REDUCED = part("tissue") | part("simulate", "basis", "shards", "packs")
REPLAYED = part("acquisition") | part("simulate", "device")
SIMULATED = FILLED | part("simulate", "basis", "shards", "device")
TARGET_SIMULATED = FILLED | part("simulate", "target_basis", "snr", seed=CONFIG.seed)
LEARNED = {
    **CONFIG.reconstruct.model_dump(include={"shape_model", "device", "gpus"}),
    "seed": CONFIG.seed,
}
RECONSTRUCTED = part("tissue") | {
    "reconstruct": CONFIG.reconstruct.model_dump(
        exclude={"shape_model", "device", "gpus", "signal"}
    ),
    "seed": CONFIG.seed,
}
IMAGED = {"images": CONFIG.synthesise.images.model_dump(), "seed": CONFIG.seed}
SCORED = {
    **CONFIG.synthesise.model_dump(include={"score_model", "device", "gpus"}),
    "seed": CONFIG.seed,
}
DRAWN = {"samples": CONFIG.synthesise.samples.model_dump(), "seed": CONFIG.seed}
BUNDLED = IMAGED | {"bundles": CONFIG.synthesise.bundles.model_dump()}
IMAGED_FIELD = part("simulate", "basis", seed=CONFIG.seed) | {
    "phantom": CONFIG.phantom.model_dump(exclude={"label", "acquisition"}),
    "measured_with": (CONFIG.phantom.acquisition or CONFIG.acquisition).model_dump(),
}


include: "resources.smk"


INPUTS = {entry.name: entry for entry in CONFIG.mesh.inputs}


def meshed(wildcards):
    """What the mesh of one of `mesh.inputs` depends on besides its files."""
    return {"entry": INPUTS[wildcards.input].model_dump(exclude={"tissue", "jobs"})}


def filled(wildcards):
    """What its signals depend on besides."""
    tissue = (INPUTS[wildcards.input].tissue or CONFIG.tissue).model_dump()
    return {"tissue": tissue} | part("acquisition") | part("simulate", "basis", "device")


def shares(wildcards):
    """Stores of the jobs that share the pieces of an input; none if it has but one job."""
    jobs = INPUTS[wildcards.input].jobs
    numbers = range(jobs) if jobs > 1 else ()
    return expand(INPUT_SHARE, input=wildcards.input, job=numbers, jobs=jobs)
