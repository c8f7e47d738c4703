"""Unions of round cones: the solid that a skeleton with radii or a chain of spheres means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.spatial import cKDTree

from spinmesh.errors import MeshError

# Cones longer than this many radii are cut in pieces, so that look-ups stay local.
LONGEST = 4.0
MOST_PIECES = 1_000_000
POINTS = 200_000  # looked up in one go
# Steps onto the surface: one is enough but where cones meet. Of the median radius, what is left.
STEPS, ON_SURFACE = 8, 1e-9
# Branches farther apart than twice this share of the smaller radius stay apart.
APART = 0.05


@dataclass(frozen=True, eq=False)
class RoundCones:
    """Segments from `start` to `end` whose radius runs linearly; equal ends are a sphere.

    A point is inside where its distance to a segment, at the nearest of its points, is below the
    radius there.
    """

    start: Float[ndarray, "cone 3"]  # um
    end: Float[ndarray, "cone 3"]
    start_radius: Float[ndarray, " cone"]
    end_radius: Float[ndarray, " cone"]

    def __post_init__(self) -> None:
        if not len(self.start):
            raise MeshError("no cones: a skeleton needs a node.")

    @property
    def largest_radius(self) -> Float[ndarray, " cone"]:
        """The larger of the radii at the ends of each, um."""
        return np.maximum(self.start_radius, self.end_radius)

    @property
    def box(self) -> Float[ndarray, "2 3"]:
        """Lowest and highest corner, um."""
        reach = self.largest_radius[:, None]
        low = (np.minimum(self.start, self.end) - reach).min(0)
        return np.stack([low, (np.maximum(self.start, self.end) + reach).max(0)])

    @property
    def smallest_radius(self) -> float:
        """Smallest radius of all, um."""
        return float(min(self.start_radius.min(), self.end_radius.min()))

    @property
    def median_radius(self) -> float:
        """Median over the cones of their smaller radius, um."""
        return float(np.median(np.minimum(self.start_radius, self.end_radius)))

    def in_pieces(self) -> RoundCones:
        """The same solid in cones of at most four radii; MeshError for more than a million."""
        axis, widening = self.end - self.start, self.end_radius - self.start_radius
        length = np.linalg.norm(axis, axis=1)
        count = np.maximum(1, np.ceil(length / (LONGEST * self.largest_radius))).astype(int)
        if count.sum() > MOST_PIECES:
            raise MeshError(
                f"{length.sum():.3g} um of cones, as thin as {self.smallest_radius:.3g} um, are "
                f"{count.sum():,} pieces; {MOST_PIECES:,} are taken. Mesh the cell in pieces."
            )
        cone = np.repeat(np.arange(len(count)), count)
        number = np.arange(len(cone)) - np.repeat(np.cumsum(count) - count, count)
        low, high = number / count[cone], (number + 1) / count[cone]
        return RoundCones(
            self.start[cone] + low[:, None] * axis[cone],
            self.start[cone] + high[:, None] * axis[cone],
            self.start_radius[cone] + low * widening[cone],
            self.start_radius[cone] + high * widening[cone],
        )

    def near(
        self, points: Float[ndarray, "point 3"], band: Float[ndarray, " point"]
    ) -> tuple[Int[ndarray, " pair"], Int[ndarray, " pair"], ndarray, ndarray]:
        """Pairs of a point and a cone nearer than the point's band: both, distance and radius.

        Distances (um) are to the cone's surface, negative inside. Points with bands of one octave
        are looked up together: a wide band must not widen the search of all.
        """
        middle = (self.start + self.end) / 2
        reach = np.linalg.norm(self.end - self.start, axis=1) / 2 + self.largest_radius
        octave = np.floor(np.log2(np.maximum(band, 1e-12)))
        blocks = []
        for each in np.unique(octave):
            members = np.flatnonzero(octave == each)
            for first in range(0, len(members), POINTS):
                these = members[first : first + POINTS]
                widest = reach + band[these].max()
                lists = cKDTree(points[these]).query_ball_point(middle, widest)
                count = np.fromiter(map(len, lists), int, len(lists))
                cone = np.repeat(np.arange(len(count)), count)
                point = these[np.concatenate([np.asarray(found, int) for found in lists])]
                distance, radius = self.at(points[point], cone)
                close = distance < band[point]
                blocks.append((point[close], cone[close], distance[close], radius[close]))
        if not blocks:
            none = np.zeros(0, dtype=int)
            return none, none, np.zeros(0), np.zeros(0)
        point, cone, distance, radius = (np.concatenate(each) for each in zip(*blocks, strict=True))
        return point, cone, distance, radius

    def _along(self, points: ndarray, cone: ndarray) -> tuple[ndarray, ndarray]:
        """Share of the way along each cone's axis, and the vector from there to the point."""
        axis, apart = self.end[cone] - self.start[cone], points - self.start[cone]
        length = np.maximum((axis**2).sum(1), 1e-30)
        share = np.clip((apart * axis).sum(1) / length, 0, 1)
        return share, apart - share[:, None] * axis

    def at(
        self, points: Float[ndarray, "point 3"], cone: Int[ndarray, " point"]
    ) -> tuple[Float[ndarray, " point"], Float[ndarray, " point"]]:
        """Distance (um) of each point to a cone of its own, negative inside, and radius there."""
        share, away = self._along(points, cone)
        widening = self.end_radius[cone] - self.start_radius[cone]
        radius = self.start_radius[cone] + share * widening
        return np.linalg.norm(away, axis=1) - radius, radius

    def distance(
        self, points: Float[ndarray, "point 3"], band: Float[ndarray, " point"]
    ) -> tuple[Float[ndarray, " point"], Float[ndarray, " point"], Int[ndarray, " point"]]:
        """Distance (um) to the union, radius there, and cone; band, inf and -1 beyond the band."""
        distance, radius = np.array(band, dtype=float), np.full(len(points), np.inf)
        nearest = np.full(len(points), -1)
        point, cone, apart, there = self.near(points, band)
        order = np.lexsort((apart, point))
        first = order[np.flatnonzero(np.diff(point[order], prepend=-1))]
        distance[point[first]], radius[point[first]] = apart[first], there[first]
        nearest[point[first]] = cone[first]
        return distance, radius, nearest

    def apart(
        self, ends: Float[ndarray, "edge 2 3"], cone: Int[ndarray, "edge 2"]
    ) -> Bool[ndarray, " edge"]:
        """Which edges, whose ends are in or on the cones given, leave the union in between.

        An edge is looked at where it is as far from the cone of its start as from that of its end.
        Gaps of less than a tenth of the smaller radius are not taken for any, nor is what lies
        between cones that start or end in one place.
        """
        axis = ends[:, 1] - ends[:, 0]
        low, high = np.zeros(len(ends)), np.ones(len(ends))
        for _ in range(6):
            share = (low + high) / 2
            place = ends[:, 0] + share[:, None] * axis
            first, second = (self.at(place, each)[0] for each in cone.T)
            low, high = np.where(first < second, share, low), np.where(first < second, high, share)
        least = APART * self.largest_radius[cone].min(1)
        leaves = np.minimum(first, second) > least
        joints = np.stack([self.start, self.end], 1)[cone[leaves]]
        between = np.linalg.norm(joints[:, 0, :, None] - joints[:, 1, None], axis=3)
        leaves[leaves] = between.min((1, 2)) > APART * least[leaves]
        length = np.linalg.norm(axis[leaves], axis=1)
        leaves[leaves] = self.distance(place[leaves], length)[0] > least[leaves]
        return leaves

    def nearest(self, points: Float[ndarray, "point 3"]) -> Float[ndarray, "point 3"]:
        """Points of the union's surface, straight away from the axes; those far from it stay.

        Where a step out of one cone leads into another, the next leads out of that.
        """
        pieces = self.in_pieces()
        band = np.full(len(points), pieces.median_radius)
        for _ in range(STEPS):
            distance, _, cone = pieces.distance(points, band)
            step = np.where(cone >= 0, distance, 0)
            points = points - step[:, None] * pieces.normals(points, cone)
            if np.abs(step).max() < ON_SURFACE * pieces.median_radius:
                break
        return points

    def normals(
        self, points: Float[ndarray, "point 3"], cone: Int[ndarray, " point"]
    ) -> Float[ndarray, "point 3"]:
        """Direction away from the axis of each point's cone; zero where there is none."""
        away = np.zeros_like(points)
        there = cone >= 0
        away[there] = self._along(points[there], cone[there])[1]
        return away / np.maximum(np.linalg.norm(away, axis=1), 1e-30)[:, None]
