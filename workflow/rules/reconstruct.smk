# Stage 3: learn the shapes, then find the one whose signal is the target's.
SHAPE_MODEL = f"{RESULTS}/reconstruct/shape_model.zarr"
RECONSTRUCTION = f"{RESULTS}/reconstruct/reconstruction.zarr"
MEASURED = f"{RESULTS}/reconstruct/measured.zarr"
FIGURE_RECONSTRUCTION = f"{RESULTS}/figures/reconstruction.png"
SIGNAL = CONFIG.reconstruct.signal
MEASURED_WITH = (SIGNAL and SIGNAL.acquisition or CONFIG.acquisition).model_dump()
SEARCHED = (SAMPLED, TARGETED, TARGET_SIMULATED, LEARNED, RECONSTRUCTED)
# Training signals are of no use to a target measured otherwise.
KNOWN_SIGNALS = [] if SIGNAL and SIGNAL.acquisition else SIGNALS
# A measured signal has no known shape behind it.
TRUTH = [] if SIGNAL else TARGET_MESH
VOXELS = SIGNAL.scattered() if SIGNAL else None
VOXEL_SHARDS = SIGNAL.shards if SIGNAL else 1
VOXEL_SHARD = f"{RESULTS}/reconstruct/voxels/{{shard}}-of-{VOXEL_SHARDS}.zarr"
VOXEL_STORE = f"{RESULTS}/reconstruct/voxels.zarr" if VOXELS else []
RECONSTRUCT_STORES = [SHAPE_MODEL, RECONSTRUCTION, VOXEL_STORE]


rule train_shape_model:
    input:
        substrates=SUBSTRATES,
    output:
        model=directory(SHAPE_MODEL),
    resources:
        **needs(4, 120, CONFIG.reconstruct.device, CONFIG.reconstruct.gpus),
    params:
        **made_by(LEARNED, SAMPLED),
    script:
        "../scripts/train_shape_model.py"


rule read_signal:
    input:
        files=local([path for path in (SIGNAL.files().values() if SIGNAL else [])]),
        acquisition=ACQUISITION_FILES,
    output:
        target=directory(MEASURED),
    params:
        signal=SIGNAL.single() if SIGNAL else None,
        measured_with=MEASURED_WITH,
        provenance=provenance(MEASURED_WITH),
    script:
        "../scripts/read_signal.py"


rule reconstruct_shape:
    input:
        target=MEASURED if SIGNAL else TARGET,
        model=SHAPE_MODEL,
        signals=KNOWN_SIGNALS,
    output:
        reconstruction=directory(RECONSTRUCTION),
        mesh=f"{RESULTS}/reconstruct/reconstruction.vtu",
    resources:
        **needs(4, 120),
    params:
        **RECONSTRUCTED,
        # Named by what it belongs to, so that a changed configuration starts afresh.
        checkpoint=f"{RESULTS}/reconstruct/{config_digest(SEARCHED)}.checkpoint",
        provenance=provenance(*SEARCHED),
    script:
        "../scripts/reconstruct_shape.py"


rule reconstruct_voxels:
    input:
        files=local([path for path in (SIGNAL.files().values() if SIGNAL else [])]),
        acquisition=ACQUISITION_FILES,
        model=SHAPE_MODEL,
        signals=KNOWN_SIGNALS,
    output:
        voxels=directory(VOXEL_SHARD),
    resources:
        **needs(4, 240),
    params:
        **RECONSTRUCTED,
        voxels=VOXELS,
        shards=VOXEL_SHARDS,
        measured_with=MEASURED_WITH,
        provenance=provenance(SAMPLED, LEARNED, RECONSTRUCTED, MEASURED_WITH, VOXELS),
    script:
        "../scripts/reconstruct_voxels.py"


rule gather_voxels:
    input:
        shards=expand(VOXEL_SHARD, shard=range(VOXEL_SHARDS)),
    output:
        voxels=directory(f"{RESULTS}/reconstruct/voxels.zarr"),
        maps=f"{RESULTS}/reconstruct/maps.nii.gz",
    resources:
        **needs(2, 30),
    params:
        provenance=provenance(SAMPLED, LEARNED, RECONSTRUCTED, MEASURED_WITH, VOXELS),
    script:
        "../scripts/gather_voxels.py"


rule plot_reconstruction:
    input:
        reconstruction=RECONSTRUCTION,
        model=SHAPE_MODEL,
        truth=TRUTH,
    output:
        figure=report(
            FIGURE_RECONSTRUCTION,
            category="3 reconstruct",
            caption="../report/reconstruction.rst",
        ),
    script:
        "../scripts/plot_reconstruction.py"
