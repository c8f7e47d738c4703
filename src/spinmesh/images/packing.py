"""Images of simulated substrates: cross-sections packed into periodic cells, and their signals."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import fft

from spinmesh.bloch_torrey import Signals
from spinmesh.bundles.images import SUPERSAMPLING, ImageSet, held_out_count
from spinmesh.errors import ConfigError
from spinmesh.mesh import Substrates, outer_faces
from spinmesh.progress import progress
from spinmesh.settings.synthesise import ImageSettings

# Cuts stay this fraction of an axon's extent away from its ends, where they would only graze it.
END_MARGIN = 0.1
# b-values closer than this (ms/um^2) are one shell; scanners list 995 and 1005 s/mm^2 for 1000.
SHELL_WIDTH = 0.05
Segments = Float[np.ndarray, "segment end 2"]


def pack_cross_sections(
    substrates: Substrates, signals: Signals, images: ImageSettings, seed: int
) -> ImageSet:
    """Images of axons drawn from the table, each turned at random and cut at a random height.

    Train images hold train substrates only, test images only the others. Axons are placed by random
    sequential addition: each at a position uniform among those where it overlaps no other. Raises
    ConfigError if the table or a split is empty, the signals are of another table, an axon is wider
    than the cell, or a cell cannot be filled in `images.attempts` attempts.
    """
    if len(signals) != len(substrates):
        raise ConfigError(
            f"images: {len(signals)} signals for {len(substrates)} substrates. Simulate this table."
        )
    rng = np.random.default_rng(seed)
    powder, unweighted = powder_average(signals)
    held_out = held_out_count(images.count, images.held_out_fraction)
    labels = ["train"] * (images.count - held_out) + ["test"] * held_out
    is_train = np.array([word == "train" for word in substrates.split])
    pools = {"train": np.flatnonzero(is_train), "test": np.flatnonzero(~is_train)}
    for label, pool in pools.items():
        if len(pool) == 0:
            raise ConfigError(f"images: no {label} substrate. Change the mesh stage's `split`.")
    cutter = _Cutter(substrates)
    pictures, fractions, conditions = [], [], []
    for label in progress(labels, "packing cross-sections"):
        picture, fraction, members = _pack(cutter, pools[label], images, rng)
        pictures.append(picture)
        fractions.append(fraction)
        conditions.append(np.log(powder[members].sum(0) / unweighted[members].sum(0)))
    return ImageSet(
        torch.from_numpy(np.stack(pictures)).float(),
        torch.from_numpy(np.stack(conditions)).float(),
        torch.tensor(fractions, dtype=torch.float32),
        tuple(labels),
        images.field_of_view_um,
    )


def powder_average(signals: Signals) -> Float[np.ndarray, "2 substrate feature"]:
    """Magnitude and unweighted signal averaged over the directions of each shell (b > 0).

    A shell is one b and one timing. Averages do not change when an axon is turned, so the features
    of a packed image are volume-weighted sums. Raises ConfigError if nothing has b > 0.
    """
    acquisition = signals.acquisition
    rounded = torch.round(acquisition.b_value / SHELL_WIDTH).long()
    pairs = zip(acquisition.timing.tolist(), rounded.tolist(), strict=True)
    keys = sorted({(timing, b) for timing, b in pairs if b})
    if not keys:
        raise ConfigError("images: the acquisition has no b > 0, so no signal to condition on.")
    shells = [(acquisition.timing == timing) & (rounded == b) for timing, b in keys]
    both = torch.stack([signals.signal.abs(), signals.unweighted])
    return torch.stack([both[..., shell].mean(-1) for shell in shells], -1).numpy()


class _Cutter:
    """Random outlines of the substrates of one table."""

    def __init__(self, substrates: Substrates) -> None:
        self.faces = outer_faces(substrates.template.tets.numpy())[0][:, :3]
        self.substrates, self.corners = substrates, np.unique(self.faces)

    def random_outline(self, index: int, rng: np.random.Generator) -> Segments:
        fraction = rng.uniform(END_MARGIN, 1 - END_MARGIN)
        points = self.substrates.mesh(index).points.detach().numpy()
        low, high = points[self.corners, 2].min(), points[self.corners, 2].max()
        cut = outline(points, self.faces, low + fraction * (high - low))
        return rotated(cut, rng.uniform(0, 2 * np.pi))


def _pack(
    cutter: _Cutter, pool: np.ndarray, images: ImageSettings, rng: np.random.Generator
) -> tuple[np.ndarray, float, list[int]]:
    """One image, its exact volume fraction and the substrates in it."""
    target = rng.uniform(*images.volume_fraction)
    for _ in range(images.attempts):
        packed = _try_to_pack(cutter, pool, images, target, rng)
        if packed is not None:
            return packed
    raise ConfigError(
        f"images: no room for axons over {target:.0%} of a {images.field_of_view_um:g} um cell in "
        f"{images.attempts} attempts. Lower `volume_fraction` or raise `field_of_view_um`."
    )


def _try_to_pack(
    cutter: _Cutter,
    pool: np.ndarray,
    images: ImageSettings,
    target: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, float, list[int]] | None:
    cells = images.pixels * SUPERSAMPLING
    grid = np.zeros((cells, cells))
    area, members = 0.0, []
    while area < target * images.field_of_view_um**2:
        index = int(rng.choice(pool))
        cut = cutter.random_outline(index, rng)
        shape = coverage(cut, images.field_of_view_um / cells, rng.random(2))
        if max(shape.shape) > cells:
            width = max(shape.shape) * images.field_of_view_um / cells
            raise ConfigError(
                f"images: the cut of substrate {index} is {width:.3g} um wide, more than the "
                f"{images.field_of_view_um:g} um cell. Raise `field_of_view_um`."
            )
        free = np.flatnonzero(free_positions(grid, shape))
        if len(free) == 0:
            return None
        row, column = divmod(int(rng.choice(free)), cells)
        rows, columns = (row + np.arange(shape.shape[0])), (column + np.arange(shape.shape[1]))
        grid[np.ix_(rows % cells, columns % cells)] += shape
        area += enclosed_area(cut)
        members.append(index)
    pixels = grid.reshape(images.pixels, SUPERSAMPLING, images.pixels, SUPERSAMPLING).mean((1, 3))
    return 2 * pixels - 1, area / images.field_of_view_um**2, members


def free_positions(grid: Float[np.ndarray, "y x"], shape: Float[np.ndarray, "h w"]) -> np.ndarray:
    """True where the corner of `shape` can lie without sharing a cell with what is in `grid`.

    The number of shared cells at every shift is a periodic correlation, so one FFT answers for all.
    """
    taken = (grid > 0).astype(np.float32)
    padded = np.zeros_like(taken)
    padded[: shape.shape[0], : shape.shape[1]] = shape > 0
    # The counts are integers up to some thousands; single-precision FFTs round at 1e-3 of one.
    free: np.ndarray = fft.irfft2(fft.rfft2(taken) * fft.rfft2(padded).conj(), s=grid.shape) < 0.5
    return free


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
