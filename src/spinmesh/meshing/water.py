"""The outer surface of the extracellular water: a box, or a wrap at one distance from the cells."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.spatial import cKDTree

from spinmesh.errors import ConfigError
from spinmesh.meshing.mending import mended
from spinmesh.meshing.process import Limits, run_apart
from spinmesh.meshing.surface import Surface, depths, parents, parts_of, united

WATER = "water"
# Of the margin: the spacing of the grid of distances, and of points on the surface. Distance to
# points instead of the surface is wrong by a hundredth of the margin at most.
GRID = 0.5
SAMPLING = 0.25
MOST_NODES = 3e7
# The six tets of Kuhn's cube, as corners 4x + 2y + z: paths from 0 to 7 along the three axes.
KUHN = np.array([np.cumsum([0, *(1 << axis for axis in path)]) for path in permutations(range(3))])
# A node exactly on the level would be a corner of many triangles of no area.
NUDGE = 1e-6


def in_box(
    surface: Surface,
    margin: float | None = None,
    size: float | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    cell: Float[ndarray, "2 3"] | None = None,
) -> Surface:
    """The surface with a box around it, `margin` (um) away: a tenth of its length if not given.

    Around the `cell` (um) too, if one is given. The box's triangles have legs of at most `size`
    (um), by default four median edges.
    """
    margin = 0.1 * surface.length if margin is None else margin
    _question(margin)
    size = size or 4 * surface.usual_edge
    box = surface.box if cell is None else np.concatenate([surface.box, cell])
    low, high = box.min(0) - margin, box.max(0) + margin
    counts = np.maximum(1, np.ceil((high - low) / size))
    limits.question(6 * counts.prod(), "box")
    counts = counts.astype(int)
    points, triangles = _box(counts)
    walls = Surface(
        low + points / counts * (high - low),
        triangles,
        np.zeros(len(triangles), dtype=np.int64),
        (WATER,),
    )
    return united([surface, walls])


def in_wrap(surface: Surface, margin: float, limits: Limits = Limits()) -> Surface:  # noqa: B008
    """The surface with a wrap around it, about `margin` (um) away everywhere.

    The wrap is the level set of the distance to the surface on a grid of half the margin, cut by
    Kuhn's tets; only its outermost sheets are kept, so that clefts and cavities narrower than twice
    the margin are water; mmgs makes its triangles even, within a tenth of the margin.
    """
    _question(margin)
    spacing = GRID * margin
    low = surface.box[0] - margin - 2 * spacing
    shape = np.ceil((surface.box[1] + margin + 2 * spacing - low) / spacing).astype(int) + 1
    if np.prod(shape.astype(float)) > MOST_NODES:
        raise ConfigError(
            f"a wrap at {margin:g} um needs a grid of {np.prod(shape.astype(float)):.2g} nodes; "
            f"{MOST_NODES:.2g} are taken. Give a larger margin, or --box."
        )
    nodes = low + spacing * np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 3)
    tree = cKDTree(_sampled(surface, SAMPLING * margin))
    far = margin + 2 * spacing
    distance = tree.query(nodes, distance_upper_bound=far)[0].reshape(shape)
    points, triangles = level_surface(np.minimum(distance, far), margin)
    part = parts_of(triangles)
    sheets = Surface(low + spacing * points, triangles, part, (WATER,) * int(part.max() + 1))
    outermost = depths(parents(sheets))[part] == 0
    job = {
        "points": sheets.points,
        "triangles": triangles[outermost],
        "size": margin,
        "hausdorff": 0.1 * margin,
        "moved": 0.0,
    }
    done = run_apart("spinmesh.meshing.worker:even", job, limits, "wrapping")
    wrap, _ = mended(done["points"], done["triangles"], WATER)
    return united([surface, wrap])


def _sampled(surface: Surface, spacing: float) -> Float[ndarray, "point 3"]:
    """Points all over a surface, no farther from one another than `spacing` along each edge."""
    longest = np.linalg.norm(surface.corners - np.roll(surface.corners, 1, 1), axis=2).max(1)
    number = np.maximum(1, 2 ** np.ceil(np.log2(longest / spacing))).astype(int)
    points = []
    for count in np.unique(number):
        i, j = (each.ravel() for each in np.indices((count + 1, count + 1)))
        weight = np.stack([i, j, count - i - j], 1)[i + j <= count] / count
        corners = surface.corners[number == count]
        points.append(np.einsum("wk,tkx->twx", weight, corners).reshape(-1, 3))
    return np.concatenate(points)


def _question(margin: float) -> None:
    if not 0 < margin < np.inf:
        raise ConfigError(f"the margin of the water is {margin} um; give a number > 0.")


def _box(
    counts: Int[ndarray, " 3"],
) -> tuple[Float[ndarray, "point 3"], Int[ndarray, "triangle 3"]]:
    """Whole coordinates of the corners of a box's faces, and triangles that face outwards."""
    squares = []
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        i, j = (each.ravel() for each in np.indices((counts[u], counts[v])))
        for side in (0, counts[axis]):
            corner = np.zeros((len(i), 4, 3), dtype=np.int64)
            corner[..., axis] = side
            corner[..., u] = np.stack([i, i + 1, i + 1, i], 1)
            corner[..., v] = np.stack([j, j, j + 1, j + 1], 1)
            squares.append(corner if side else corner[:, ::-1])
    square = np.concatenate(squares)
    points, index = np.unique(square.reshape(-1, 3), axis=0, return_inverse=True)
    index = index.reshape(-1, 4)
    return points.astype(np.float64), np.concatenate([index[:, [0, 1, 2]], index[:, [0, 2, 3]]])


def level_surface(
    values: Float[ndarray, "x y z"], level: float
) -> tuple[Float[ndarray, "point 3"], Int[ndarray, "triangle 3"]]:
    """Where values, linear in the six tets of each cube, are `level`; normals towards larger ones.

    Points in units of the grid. Closed and without edges of more than two triangles, if no value on
    the rim of the grid is below the level.
    """
    above = values.ravel() - level
    least = NUDGE * np.abs(above).max()
    above = np.where(np.abs(above) < least, least, above)
    tets = _crossed_tets(above.reshape(values.shape))
    inside = above[tets] < 0
    # Corners below the level first; then one or three of them make a triangle, two a square.
    order = np.argsort(~inside, axis=1, kind="stable")
    tets, count = np.take_along_axis(tets, order, 1), inside.sum(1)
    quads = [
        (tets[count == 1], ((0, 1), (0, 2), (0, 3))),
        (tets[count == 3], ((0, 3), (1, 3), (2, 3))),
        (tets[count == 2], ((0, 2), (0, 3), (1, 3))),
        (tets[count == 2], ((0, 2), (1, 3), (1, 2))),
    ]
    edges = np.concatenate([tet[:, np.array(pairs)] for tet, pairs in quads])
    low = np.concatenate([tet[:, 0] for tet, _ in quads])
    ends, index = np.unique(np.sort(edges, 2).reshape(-1, 2), axis=0, return_inverse=True)
    first, second = (np.stack(np.unravel_index(end, values.shape), 1) for end in ends.T)
    share = above[ends[:, 0]] / (above[ends[:, 0]] - above[ends[:, 1]])
    points = first + share[:, None] * (second - first)
    return points, _outward(points, index.reshape(-1, 3), low, values.shape)


def _crossed_tets(above: ndarray) -> ndarray:
    """Kuhn's tets, by the flat indices of their corners, that have values on both sides of zero."""
    x_end, y_end, z_end = (size - 1 for size in above.shape)
    nodes = np.arange(above.size).reshape(above.shape)
    corners = np.stack(
        [
            nodes[x : x + x_end, y : y + y_end, z : z + z_end]
            for x in (0, 1)
            for y in (0, 1)
            for z in (0, 1)
        ],
        -1,
    ).reshape(-1, 8)
    below = above.ravel()[corners] < 0
    cubes = corners[below.any(1) & ~below.all(1)]
    tets = cubes[:, KUHN].reshape(-1, 4)
    below = above.ravel()[tets] < 0
    return tets[below.any(1) & ~below.all(1)]


def _outward(points: ndarray, triangles: ndarray, low: ndarray, shape: tuple[int, ...]) -> ndarray:
    """Triangles whose normals point away from a grid node on their inner side."""
    a, b, c = np.moveaxis(points[triangles], 1, 0)
    inner = np.stack(np.unravel_index(low, shape), 1)
    inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), a - inner) < 0
    return np.where(inward[:, None], triangles[:, ::-1], triangles)
