"""One figure per stage and the one-screen summary.

The figures load matplotlib only when first asked for; importing this package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spinmesh.report.conditional import plot_calibration, plot_draws
    from spinmesh.report.meshes import plot_meshes
    from spinmesh.report.phantom import plot_phantom
    from spinmesh.report.reconstruction import plot_reconstruction
    from spinmesh.report.scores import plot_gallery, plot_models, plot_points
    from spinmesh.report.signals import plot_signals
    from spinmesh.report.summary import stage_times, summary_text
    from spinmesh.report.synthesis import plot_synthesis

__all__ = [
    "plot_calibration",
    "plot_draws",
    "plot_gallery",
    "plot_meshes",
    "plot_models",
    "plot_phantom",
    "plot_points",
    "plot_reconstruction",
    "plot_signals",
    "plot_synthesis",
    "stage_times",
    "summary_text",
]

_MODULES = {
    "plot_gallery": "scores",
    "plot_calibration": "conditional",
    "plot_draws": "conditional",
    "plot_meshes": "meshes",
    "plot_models": "scores",
    "plot_phantom": "phantom",
    "plot_points": "scores",
    "plot_reconstruction": "reconstruction",
    "plot_signals": "signals",
    "plot_synthesis": "synthesis",
    "stage_times": "summary",
    "summary_text": "summary",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
