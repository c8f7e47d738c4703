"""spinmesh: tissue geometry to diffusion-MRI signal, back, and on to synthetic images.

The verbs and nouns below are imported on first use, so that `import spinmesh` is quick.
Units inside: um, ms, mT/m, rad; b in ms/um^2 (see `spinmesh.units`).
"""

from importlib import import_module
from typing import Any

# Names by the module that defines them.
HOME = {
    "spinmesh.mesh": "Substrates SweptDisk TetMesh ball check_quality deform jacobian_determinants "
    "nested_cylinder sample_substrates single_substrate swept_disk",
    "spinmesh.mesh.bundle": "bundle_of",
    "spinmesh.tissue": "Tissue",
    "spinmesh.sequence": "PGSE Acquisition CosineOGSE FreeWaveform MultiplePGSE SineOGSE "
    "TrapezoidalOGSE",
    "spinmesh.settings": "Free PackedBundle Reconstruct",
    "spinmesh.fem": "assemble",
    "spinmesh.reduction": "krylov_span laplace_span project reduce_shapes",
    "spinmesh.bloch_torrey": "Basis Signals",
    "spinmesh.bodies": "Pack reduce replay simulate simulate_substrates strongest_protocol",
    "spinmesh.settings.reconstruct": "ShapeTraining",
    "spinmesh.shapes": "ShapeModel shape_errors train_shape_model",
    "spinmesh.inversion": "Reconstruction Target reconstruct simulate_target",
    "spinmesh.bundles": "ImageSet",
    "spinmesh.settings.synthesise": "ImageSettings Sampling ScoreTraining",
    "spinmesh.images": "Synthesis draw_and_compare pack_cross_sections",
    "spinmesh.scores": "ScoreModel draw train_score",
    "spinmesh.io": "load save",
    "spinmesh.io.meshes": "read_mesh write_mesh",
    "spinmesh.io.acquisitions": "read_acquisition",
    "spinmesh.io.targets": "read_target",
}
_PLACES = {name: module for module, names in HOME.items() for name in names.split()}

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'spinmesh' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return __all__
