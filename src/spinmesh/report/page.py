"""One page that turns shapes, slides through samples, and shows signals, images and volumes.

It needs no other file and no network. A scene is what the page shows at once, ready for JSON: a
shape, its signals, images or a volume, each a key that the page (`page.html`) has a panel for.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.colors import to_hex
from numpy import ndarray
from scipy.spatial import cKDTree
from torch import Tensor

from spinmesh.bloch_torrey import Signals
from spinmesh.bundles import ImageSet
from spinmesh.images import Draws, Synthesis
from spinmesh.inversion import Reconstruction, Target
from spinmesh.inversion.voxels import VOXEL_NUMBERS, ShapeMaps
from spinmesh.maps import PosteriorMaps
from spinmesh.mesh import Substrates, TetMesh, sizes, tet_quality
from spinmesh.noise import rician_mean
from spinmesh.phantom import Phantom
from spinmesh.report.inputs import palette
from spinmesh.report.meshes import parameters_in_words
from spinmesh.report.reconstruction import aligned
from spinmesh.report.style import BLUE, FAMILY_COLOURS, GREY
from spinmesh.report.surface import surface
from spinmesh.report.synthesis import NAMES, TISSUE
from spinmesh.report.volumes import phantom_maps
from spinmesh.sequence import Acquisition
from spinmesh.shapes import ShapeModel

TEMPLATE = Path(__file__).with_name("page.html")
# Of each mesh; a larger surface is decimated, which moves it by less than a pixel or so.
MOST_TRIANGLES = 24_000
# Shapes of a slider and images of a gallery, at most; of longer tables as many, evenly spread.
FRAMES, IMAGES = 60, 120
# Numbers of all maps of a volume, at most: a larger one is thinned out.
MOST_VALUES = 1_500_000
STEPS = 2**16 - 1
Scene = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Part:
    """Closed surfaces of one compartment, a frame each, all with the nodes of the first."""

    frames: Sequence[TetMesh]
    colour: str
    words: str
    shown: bool = True


def page_of(scenes: Sequence[Scene]) -> str:
    """The page of some scenes, the first one shown."""
    colours = [to_hex(colour) for colour in mpl.colormaps["viridis"](np.linspace(0, 1, 9))]
    tissue = [to_hex(colour) for colour in TISSUE(np.linspace(0, 1, 9))]
    data = json.dumps({"palette": colours, "tissue": tissue, "scenes": list(scenes)})
    # A note cannot end the script that it stands in.
    return TEMPLATE.read_text(encoding="utf-8").replace("/*DATA*/", data.replace("</", "<\\/"))


def evenly(count: int, most: int = FRAMES) -> list[int]:
    """Rows of a table, evenly spread: all, or so many."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


def mesh_scene(mesh: TetMesh, notes: Sequence[str], most: int = MOST_TRIANGLES) -> Scene:
    """A mesh by its compartments; some of the notes of its store name them."""
    colours, parts = palette(mesh, notes), []
    for label, (volume, area) in zip(mesh.labels, sizes(mesh).tolist(), strict=True):
        colour, words = colours[label]
        words = f"{words}: {volume:.4g} µm³, {area:.4g} µm²"
        parts.append(Part([mesh.part(label)], colour, words))
    worst = float(tet_quality(mesh).min())
    about = f"{len(mesh.points):,} nodes, {len(mesh.tets):,} tets, worst quality {worst:.2f}"
    scene = {"name": mesh.name, "about": about, "notes": list(notes)[len(parts) :]}
    return scene | {"shape": _shape(parts, most)}


def table_scene(name: str, table: Substrates, rows: Sequence[int]) -> Scene:
    """Some shapes of a table, on a slider."""
    meshes = [table.mesh(row) for row in rows]
    families = [table.family[row] for row in rows]
    colour = FAMILY_COLOURS.get(families[0], GREY) if len({*families}) == 1 else BLUE
    labels = [
        ", ".join([f"no. {row}", table.family[row], *parameters_in_words(table, row)])
        for row in rows
    ]
    about = f"{len(rows)} of {len(table):,} shapes" if len(rows) < len(table) else ""
    shape = _shape([Part(meshes, colour, "surface")]) | {"labels": labels}
    return {"name": name, "about": about, "shape": shape}


def signal_scene(signals: Signals) -> Scene:
    """Attenuations, those of each substrate a frame."""
    return _signals(signals.acquisition, {"simulated": signals.attenuation})


def target_scene(target: Target, predicted: Tensor | None = None) -> Scene:
    """What was measured, beside what is predicted of it with the noise's mean added."""
    curves = {"measured": target.attenuation[None]}
    if predicted is not None:
        curves["predicted"] = rician_mean(predicted, target.sigma)[None]
    return _signals(target.acquisition, curves, target.sigma)


def reconstruction_scene(
    name: str, result: Reconstruction, model: ShapeModel | None, truth: TetMesh | None
) -> Scene:
    """The best shape and, with the model, samples of the posterior, coloured by their spread."""
    meshes, labels, nodes = [result.mesh], ["best"], result.mesh.points.numpy()
    if model is not None:
        samples = result.posterior.samples.points(model).detach()
        rows = evenly(len(samples)) if len(samples) else []
        meshes += [result.mesh.with_points(samples[row]) for row in rows]
        labels += [f"posterior sample {row + 1} of {len(samples)}" for row in rows]
    parts = [Part(meshes, BLUE, "reconstruction")]
    coloured = {"posterior spread (µm)": (nodes, result.spread.numpy())}
    if truth is not None:
        sign, shift = aligned(truth, result.mesh)
        moved = truth.with_points(sign * truth.points + torch.from_numpy(shift))
        parts.append(Part([moved], GREY, "truth (translation and point reflection removed)", False))
        apart = cKDTree(_frames([moved])[0][0]).query(nodes)[0]
        coloured["distance to the truth (µm)"] = (nodes, apart)
    fit = result.fit
    about = (
        f"χ² per measurement {fit.chi2_per_measurement:.2f}, {fit.determined} of "
        f"{len(result.posterior.latent.mean)} latent directions determined by the signal"
    )
    shape = _shape(parts, coloured=coloured) | {"labels": labels}
    return {"name": name, "about": about, "shape": shape} | target_scene(
        result.target, fit.predicted
    )


def image_scene(name: str, images: ImageSet | Synthesis | Draws) -> Scene:
    """A gallery of images with their numbers."""
    columns: dict[str, Tensor] = {}
    if isinstance(images, ImageSet):
        pixels, about = images.images, f"{len(images):,} images, held out and for training"
        columns = {"volume fraction": images.volume_fraction}
        if images.effective_radius is not None:
            columns["effective radius (µm)"] = images.effective_radius
    elif isinstance(images, Synthesis):
        pixels = images.samples
        scores = [f"{NAMES[k]} {v:.3g}" for k, v in images.metrics.items() if k in NAMES]
        about = (
            f"{len(pixels):,} synthesised images. Distance to held-out ones: {'; '.join(scores)}"
        )
    else:
        pixels, chi2 = images.images, images.misfit
        about = "given the signal" if images.measured is not None else "without a signal"
        columns = {} if chi2 is None else {"χ² per measurement, simulated again": chi2}
    rows = evenly(len(pixels), IMAGES)
    captions = []
    for row in rows:
        numbers = [f"{k} {float(v[row]):.3g}" for k, v in columns.items() if row < len(v)]
        captions.append(", ".join([f"no. {row}", *numbers]))
    chosen = pixels[rows].numpy()
    gallery = {"height": chosen.shape[1], "width": chosen.shape[2], "captions": captions}
    gallery |= {"um": images.field_of_view, "pixels": _packed(chosen, -1.0, 1.0)}
    return {"name": name, "about": about, "images": gallery}


def volume_scene(name: str, volume: Phantom | PosteriorMaps | ShapeMaps) -> Scene:
    """Maps of a volume, slice by slice."""
    if isinstance(volume, Phantom):
        maps = phantom_maps(volume)
        about = (
            f"{len(volume.acquisition)} measurements of {' x '.join(map(str, maps['FA'].shape))}"
        )
        return {"name": name, "about": about, "volume": _volume(volume.field.affine, maps)}
    maps, place = {}, tuple(volume.voxel.T.numpy())
    if isinstance(volume, ShapeMaps):
        named = zip(volume.names, volume.numbers.T, strict=True)
        columns = {_label(key, VOXEL_NUMBERS.get(key, "1")): values for key, values in named}
    else:
        answers, columns = volume.answers, {}
        for k, (key, unit) in enumerate(zip(volume.names, volume.units, strict=True)):
            columns[_label(key, unit)] = answers.median[:, k]
            columns[f"{key.replace('_', ' ')}: shrinkage"] = answers.shrinkage[:, k]
        columns["flags"] = answers.flags
    for key, values in columns.items():
        maps[key] = np.full(volume.grid.shape, np.nan)
        maps[key][place] = values.numpy()
    about = f"{len(volume.voxel):,} voxels"
    return {"name": name, "about": about, "volume": _volume(volume.grid.affine, maps)}


def _label(name: str, unit: str) -> str:
    return name.replace("_", " ") + (f" ({unit.replace('um', 'µm')})" if unit != "1" else "")


def _volume(affine: Float[Tensor, "4 4"], maps: Mapping[str, ndarray]) -> Scene:
    """Maps in 16 bits, first axis fastest, with axes towards right, front and up."""
    linear, shape = affine[:3, :3].numpy(), next(iter(maps.values())).shape
    step = max(1, int(np.ceil((len(maps) * np.prod(shape) / MOST_VALUES) ** (1 / 3))))
    axes, packed = np.argsort(np.abs(linear).argmax(0), kind="stable"), []
    turned = tuple(slice(None, None, 1 if linear[k, axes[k]] > 0 else -1) for k in range(3))
    for words, values in maps.items():
        thin = values[::step, ::step, ::step].transpose(axes)[turned]
        present = thin[np.isfinite(thin)]
        low, high = (float(f(present)) if present.size else 0.0 for f in (np.min, np.max))
        # The lowest step stands for no value.
        data = _packed(np.nan_to_num(thin, nan=-np.inf).T, low - (high - low or 1) / STEPS, high)
        packed.append({"words": words, "low": low, "high": high, "values": data})
    size = step * np.linalg.norm(linear, axis=0)[axes]
    return {"shape": list(thin.shape), "mm": size.tolist(), "step": step, "maps": packed}


def _signals(
    acquisition: Acquisition,
    curves: Mapping[str, Float[Tensor, "row measurement"]],
    sigma: float = 0.0,
) -> Scene:
    signals = {
        "b": acquisition.b_value.numpy().round(4).tolist(),
        "timing": acquisition.timing.tolist(),
        "timings": [sequence.label for sequence in acquisition.sequences],
        "direction": acquisition.direction.numpy().round(4).tolist(),
        "floor": float(np.sqrt(np.pi / 2)) * sigma,
        "curves": [
            {"words": words, "rows": rows.numpy().round(5).tolist()}
            for words, rows in curves.items()
        ],
    }
    return {"signals": signals}


def _shape(
    parts: Sequence[Part],
    most: int = MOST_TRIANGLES,
    coloured: Mapping[str, tuple[ndarray, ndarray]] | None = None,
) -> Scene:
    """Surfaces in 16 bits; `coloured` has nodes and values by which the first part is coloured."""
    boxes = np.array([f.bounding_box.detach().numpy() for part in parts for f in part.frames])
    low, high = boxes[:, 0].min(0), boxes[:, 1].max(0)
    length, packed, values = float((high - low).max()), [], []
    for number, part in enumerate(parts):
        frames, triangles = _frames(part.frames, max(200, most // len(parts)))
        for words, (nodes, value) in (coloured or {}).items() if number == 0 else ():
            nearest, top = cKDTree(nodes).query(frames[0])[1], float(value.max())
            values.append(
                {"words": words, "high": top, "values": _packed(value[nearest], 0.0, top)}
            )
        packed.append(
            {
                "colour": part.colour,
                "words": part.words,
                "shown": part.shown,
                "triangles": b64encode(triangles.astype("<u4").tobytes()).decode(),
                "frames": [_packed(frame - low, 0.0, length) for frame in frames],
            }
        )
    box = ((high - low) / length).tolist()
    return {"um": length, "box": box, "parts": packed, "values": values}


def _packed(values: ndarray, low: float, high: float) -> str:
    """Fractions of the way from low to high in 16 bits, base64."""
    part = ((values - low) / (high - low or 1.0)).clip(0, 1)
    return b64encode(np.round(STEPS * part).astype("<u2").tobytes()).decode()


def _frames(
    meshes: Sequence[TetMesh], most: int = MOST_TRIANGLES
) -> tuple[list[Float[ndarray, "point 3"]], Int[ndarray, "triangle 3"]]:
    """Surfaces of meshes of the same tets, curved faces in pieces; of one alone, few triangles."""
    corners = [surface(mesh, np.eye(3), ["black"]).triangles.reshape(-1, 3) for mesh in meshes]
    # Corners of neighbouring faces differ by rounding only.
    _, first, number = np.unique(
        corners[0].round(6), axis=0, return_index=True, return_inverse=True
    )
    frames, triangles = [each[first] for each in corners], number.reshape(-1, 3).astype(int)
    if np.linalg.det(frames[0][triangles]).sum() < 0:
        triangles = triangles[:, ::-1]  # a mirror image is inside out
    if len(meshes) == 1 and len(triangles) > most:
        import pyvista

        whole = pyvista.PolyData.from_regular_faces(frames[0], triangles)
        few = whole.decimate(1 - most / len(triangles), volume_preservation=True)
        frames = [np.array(few.points, dtype=np.float64)]
        triangles = np.array(few.regular_faces).view(np.int64)
    return frames, triangles
