"""The cut of a mesh by a horizontal plane, exact, and its anti-aliased picture."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

Segments = Float[np.ndarray, "segment end 2"]


def outline(
    points: Float[np.ndarray, "point 3"], faces: Int[np.ndarray, "face 3"], height: float
) -> Segments:
    """Boundary of the cut by z = height: directed segments (um) with the inside on their left.

    The cut of a straight-sided mesh is the union of one polygon per tet. Polygons of neighbours
    share the edge cut from their common face, so the union's boundary is what the plane cuts from
    the outer faces alone. A point on the plane counts as above it, so no case is degenerate.
    """
    z = points[faces, 2] - height
    above = z >= 0
    count = above.sum(1)
    hit = (count == 1) | (count == 2)
    faces, z, above, up = faces[hit], z[hit], above[hit], count[hit] == 1
    # The corner that is alone on its side of the plane, then the other two in order.
    apex = np.argmax(above == up[:, None], axis=1)
    order = (apex[:, None] + np.arange(3)) % 3
    z = np.take_along_axis(z, order, 1)
    corner = points[np.take_along_axis(faces, order, 1), :2]
    step = z[:, :1] / (z[:, :1] - z[:, 1:])
    ends = corner[:, :1] + step[..., None] * (corner[:, 1:] - corner[:, :1])
    segments: Segments = np.where(up[:, None, None], ends, ends[:, ::-1])
    return segments


def enclosed_area(segments: Segments) -> float:
    """Area (um^2) inside an outline, by Green's theorem."""
    (x0, y0), (x1, y1) = segments[:, 0].T, segments[:, 1].T
    return float(0.5 * (x0 * y1 - x1 * y0).sum())


def rotated(segments: Segments, angle: float) -> Segments:
    """The outline turned by `angle` rad."""
    c, s = np.cos(angle), np.sin(angle)
    turned: Segments = segments @ np.array([[c, s], [-s, c]])
    return turned


def coverage(
    segments: Segments, cell: float, offset: Float[np.ndarray, " 2"], lines: int = 2
) -> Float[np.ndarray, "y x"]:
    """Fraction of each square cell inside the outline, on the smallest grid that holds it.

    Exact along x, sampled on `lines` scan lines per cell along y. `offset` in [0, 1)^2 shifts the
    outline by that fraction of a cell.
    """
    start = segments.min((0, 1)) - offset * cell
    nx, ny = np.ceil((segments.max((0, 1)) - start) / cell).astype(int)
    (x0, y0), (x1, y1) = ((segments[:, end] - start).T / cell for end in (0, 1))
    y = (np.arange(ny * lines) + 0.5) / lines
    line, edge = np.nonzero((y0 <= y[:, None]) != (y1 <= y[:, None]))
    x = x0[edge] + (y[line] - y0[edge]) / (y1[edge] - y0[edge]) * (x1[edge] - x0[edge])
    # Walking along +x, edges that run down enter the shape and edges that run up leave it.
    sign = np.where(y1[edge] < y0[edge], 1.0, -1.0)
    column = np.minimum(np.floor(x).astype(int), nx - 1)
    change = np.zeros((ny * lines, nx + 1))
    np.add.at(change, (line, column), sign * (column + 1 - x))
    np.add.at(change, (line, column + 1), sign * (x - column))
    covered: Float[np.ndarray, "y x"] = change.cumsum(1)[:, :nx].reshape(ny, lines, nx).mean(1)
    return covered
