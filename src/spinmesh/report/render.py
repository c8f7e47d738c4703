"""Off-screen rendering with pyvista, in a process of its own, or with matplotlib instead.

VTK ends the whole process, without an exception, where no OpenGL is found; a child process may
die and cost nothing but its time. Run as a file, this is that child: `render.py scene.npz out.png`.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

# A picture takes about 10 s on one busy core; after this many the child is given up.
TIME_OUT = 60.0
LOGGER = logging.getLogger("spinmesh")
FALLBACK = "%s; drawing with matplotlib instead"


def render_scene(
    triangles: np.ndarray, colour: np.ndarray, edges: np.ndarray, box: tuple[float, ...], width: int
) -> np.ndarray | None:
    """RGBA picture of the view's `box` (left, right, bottom, top; um), `width` pixels wide.

    None, with a log line that says why, if pyvista is absent or cannot render here.
    """
    if find_spec("pyvista") is None:
        LOGGER.info(FALLBACK, "pyvista is not installed")
        return None
    with tempfile.TemporaryDirectory() as folder:
        scene, picture = Path(folder, "scene.npz"), Path(folder, "picture.npy")
        np.savez(scene, triangles=triangles, colour=colour, edges=edges, box=box, width=width)
        # -P keeps the modules beside this file from hiding others of the same name.
        command = [sys.executable, "-P", __file__, str(scene), str(picture)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=TIME_OUT, check=False
            )
        except subprocess.TimeoutExpired:
            LOGGER.info(FALLBACK, f"pyvista took more than {TIME_OUT:g} s")
            return None
        if done.returncode != 0 or not picture.is_file():
            LOGGER.info(
                FALLBACK, f"pyvista ended with {done.returncode} {done.stderr.strip()[-200:]}"
            )
            return None
        return np.asarray(np.load(picture))


def _child(scene: str, picture: str) -> None:
    pv: Any = import_module("pyvista")
    data = np.load(scene)
    left, right, bottom, top = data["box"]
    width = int(data["width"])
    height = round(width * (top - bottom) / (right - left))
    plotter = pv.Plotter(off_screen=True, window_size=(width, height), lighting="none")
    corners = data["triangles"].reshape(-1, 3)
    faces = pv.PolyData.from_regular_faces(corners, np.arange(len(corners)).reshape(-1, 3))
    faces.cell_data["colour"] = (255 * data["colour"]).astype(np.uint8)
    # Joined corners share a normal, except across the sharp rim of a cut or an end.
    faces = faces.clean(tolerance=1e-6)
    faces = faces.compute_normals(feature_angle=40, split_vertices=True, auto_orient_normals=False)
    plotter.add_mesh(
        faces, scalars="colour", rgb=True, smooth_shading=True, ambient=0.38, diffuse=0.8,
        specular=0.3, specular_power=25,
    )  # fmt: skip
    lines = pv.line_segments_from_points(data["edges"].reshape(-1, 3))
    plotter.add_mesh(lines, color="#202020", line_width=1.2, opacity=0.45)
    for position, strength in (((-0.6, 0.7, 1.0), 0.95), ((1.0, 0.1, 0.6), 0.3)):
        plotter.add_light(
            pv.Light(position=position, intensity=strength, light_type="camera light")
        )
    middle = np.array([(left + right) / 2, (bottom + top) / 2, 0.0])
    reach = float(np.abs(corners).max()) + 1
    plotter.camera_position = [middle + np.array([0, 0, 2 * reach]), middle, (0, 1, 0)]
    plotter.enable_parallel_projection()
    plotter.camera.parallel_scale = (top - bottom) / 2
    plotter.camera.clipping_range = (0.1, 4 * reach)
    plotter.enable_anti_aliasing("ssaa")
    np.save(picture, plotter.screenshot(transparent_background=True, return_img=True))


if __name__ == "__main__":
    _child(*sys.argv[1:])
