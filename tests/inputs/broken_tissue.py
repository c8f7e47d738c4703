"""Broken surfaces and skeletons, made by a seed: `spinmesh mesh` meshes, repairs or refuses each.

`make fuzz` runs 200, one process each, and prints the table of docs/results/tissue.md;
`test_broken_tissue.py` runs a few. Nothing may end in a traceback, nor take more than a minute.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import tempfile
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from numpy import ndarray
from numpy.random import Generator
from typer.testing import CliRunner

from spinmesh import TetMesh, cli, load
from spinmesh.errors import SpinmeshError
from spinmesh.meshing.tets import quality

SLOWEST = 60.0  # CPU s
PATIENCE = 300.0  # s of a busy machine
FLATTEST = 1e-6  # quality, as of `--check`
Soup = tuple[ndarray, ndarray]


@dataclass(frozen=True)
class Case:
    """A file that is broken in one way, and the kind of it."""

    kind: str
    file: str
    content: bytes


def ball(radius: float, centre: tuple[float, ...] = (0, 0, 0), steps: int = 2) -> Soup:
    body = trimesh.creation.icosphere(subdivisions=steps, radius=radius)
    return np.array(body.vertices) + centre, np.array(body.faces)


def joined(*bodies: Soup) -> Soup:
    start = np.cumsum([0, *(len(points) for points, _ in bodies)])
    triangles = [faces + first for (_, faces), first in zip(bodies, start, strict=False)]
    return np.concatenate([points for points, _ in bodies]), np.concatenate(triangles)


def body(random: Generator) -> Soup:
    """A ball, a ring, a beaded tube, a ball in a ball, or two balls apart."""
    kind = random.integers(5)
    if kind == 0:
        return ball(2.0)
    if kind == 1:
        ring = trimesh.creation.torus(3.0, 1.0, 24, 12)
        return np.array(ring.vertices), np.array(ring.faces)
    if kind == 2:
        tube = trimesh.creation.capsule(8.0, 1.0, count=[16, 16]).subdivide()
        points = np.array(tube.vertices)
        points[:, :2] *= 1 + 0.3 * np.cos(points[:, 2:])
        return points, np.array(tube.faces)
    if kind == 3:
        return joined(ball(2.0), ball(1.0, (0.3, 0, 0), 1))
    return joined(ball(2.0), ball(1.0, (4, 0, 0), 1))


def _size(points: ndarray) -> float:
    return float(np.ptp(points, axis=0).max())


def _near(points: ndarray, random: Generator, count: int) -> ndarray:
    middle = points[random.integers(len(points))]
    return np.argsort(np.linalg.norm(points - middle, axis=1))[:count]


def few_holes(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    return points, np.delete(triangles, random.integers(len(triangles), size=5), axis=0)


def large_hole(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    gone = _near(points, random, len(points) // 8)
    return points, triangles[~np.isin(triangles, gone).any(1)]


def half(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    return points, triangles[points[triangles].mean(1) @ random.normal(size=3) > 0]


def spikes(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    points = points.copy()
    points[random.integers(len(points), size=3)] *= random.uniform(-3, 3, (3, 1))
    return points, triangles


def noise(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    return points + random.normal(0, 0.03 * _size(points), points.shape), triangles


def crossing_copy(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    return joined((points, triangles), (points + random.uniform(0.2, 1.5, 3), triangles))


def many_crossing(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    del points, triangles
    return joined(*(ball(1.0, tuple(random.uniform(-2, 2, 3)), 1) for _ in range(20)))


def turned_triangles(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    some = random.random(len(triangles)) < 0.3
    return points, np.where(some[:, None], triangles[:, ::-1], triangles)


def inside_out(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    del random
    return points, triangles[:, ::-1]


def loose_triangles(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    loose = points[triangles].reshape(-1, 3)
    shift = 10 ** random.uniform(-9, -3) * _size(points)
    return loose + random.normal(0, shift, loose.shape), np.arange(len(loose)).reshape(-1, 3)


def not_numbers(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    points = points.copy()
    points[random.integers(len(points), size=2)] = random.choice([np.nan, np.inf, 1e30])
    return points, triangles


def all_twice(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    copies = random.integers(2)
    return joined((points, triangles), (points, triangles[:, ::-1] if copies else triangles))


def slivers(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    """Corners moved along an edge until it is almost gone."""
    points = points.copy()
    for triangle in random.choice(triangles, 6):
        share = 10 ** random.uniform(-6, -3)
        points[triangle[0]] = points[triangle[1]] + share * (
            points[triangle[0]] - points[triangle[1]]
        )
    return points, triangles


def split_edges(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    """Triangles cut by a corner on one of their edges, which the neighbour does not have."""
    number = random.integers(len(triangles))
    a, b, c = triangles[number]
    middle, new = (points[a] + points[b]) / 2, len(points)
    rest = np.delete(triangles, number, axis=0)
    return np.vstack([points, middle]), np.vstack([rest, [[a, new, c], [new, b, c]]])


def fin(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    a, b, _ = triangles[random.integers(len(triangles))]
    outside = points[a] + random.normal(size=3) * _size(points) * 0.3
    return np.vstack([points, outside]), np.vstack([triangles, [[a, b, len(points)]]])


def wall_inside(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    """A triangle over three corners far apart."""
    return points, np.vstack([triangles, random.choice(len(points), 3, replace=False)])


def touching(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    """A copy that touches the body in its highest corner, or along a mirrored face."""
    top = points[points[:, 2].argmax()]
    mirrored = points * [1, 1, -1] + [0, 0, 2 * top[2]]
    away = 10 ** random.uniform(-12, -3) * random.integers(2)
    return joined((points, triangles), (mirrored + np.array([0, 0, away]), triangles[:, ::-1]))


def two_boxes_wall_to_wall(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    del points, triangles
    box = trimesh.creation.box((3, 3, 3))
    corners, faces = np.array(box.vertices), np.array(box.faces)
    return joined((corners, faces), (corners + np.array([3, random.integers(2), 0]), faces))


def thin_shell(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    inner = points.mean(0) + (points - points.mean(0)) * (1 - 10 ** random.uniform(-5, -2))
    return joined((points, triangles), (inner, triangles))


def flat(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    return points * [1, 1, 10 ** random.uniform(-8, -3)], triangles


def moebius(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    del points, triangles
    turn, wide = np.meshgrid(np.linspace(0, 2 * np.pi, 40), [-0.5, 0.0, 0.5], indexing="ij")
    radius = 3 + wide * np.cos(turn / 2)
    place = np.stack([radius * np.cos(turn), radius * np.sin(turn), wide * np.sin(turn / 2)], -1)
    corner = np.arange(120).reshape(40, 3)
    a, b, c, d = corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    return place.reshape(-1, 3) + random.normal(0, 1e-3, 3), faces


def crumb(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    small = 10 ** random.uniform(-5, -2)
    return joined((points, triangles), (points * small + 1.2 * _size(points), triangles))


def index_out_of_range(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    triangles = triangles.copy()
    triangles[random.integers(len(triangles)), 0] = random.choice([len(points) + 7, -3])
    return points, triangles


def other_unit(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    return points * random.choice([1e-6, 1e-3, 1e3]), triangles


def needle(points: ndarray, triangles: ndarray, random: Generator) -> Soup:
    return points * [1, 1, 300 * random.uniform(1, 3)], triangles


SURFACES: tuple[Callable[[ndarray, ndarray, Generator], Soup], ...] = (
    *(few_holes, large_hole, half, spikes, noise, crossing_copy, many_crossing, turned_triangles),
    *(inside_out, loose_triangles, not_numbers, all_twice, slivers, split_edges, fin, wall_inside),
    *(touching, two_boxes_wall_to_wall, thin_shell, flat, moebius, crumb, index_out_of_range),
    *(other_unit, needle),
)


def ply(points: ndarray, triangles: ndarray) -> bytes:
    head = f"ply\nformat ascii 1.0\nelement vertex {len(points)}\nproperty double x\n"
    head += f"property double y\nproperty double z\nelement face {len(triangles)}\n"
    head += "property list uchar int vertex_indices\nend_header\n"
    rows = [" ".join(map(repr, row)) for row in points.tolist()]
    rows += [f"3 {a} {b} {c}" for a, b, c in triangles.tolist()]
    return (head + "\n".join(rows) + "\n").encode()


def tree(random: Generator) -> ndarray:
    """Rows `id type x y z radius parent` of a soma with forked neurites."""
    rows = [[1.0, 1, 0, 0, 0, 3, -1]]
    for _ in range(random.integers(2, 5)):
        parent, place, radius = 1, np.zeros(3), random.uniform(0.3, 1.0)
        way = random.normal(size=3)
        for _ in range(random.integers(4, 10)):
            way = way / np.linalg.norm(way) + random.normal(0, 0.4, 3)
            place = place + way * random.uniform(1, 4)
            radius *= random.uniform(0.8, 1.1)
            rows.append([len(rows) + 1, 3, *place, radius, parent])
            parent = random.integers(max(2, len(rows) - 2), len(rows)) if len(rows) > 2 else 2
    return np.array(rows)


def _with(rows: ndarray, random: Generator, column: int, value: float, count: int = 1) -> ndarray:
    rows = rows.copy()
    rows[random.integers(1, len(rows), size=count), column] = value
    return rows


def cycle(rows: ndarray, random: Generator) -> ndarray:
    number = random.integers(2, len(rows))
    rows = rows.copy()
    rows[number - 1, 6] = number + random.integers(0, 2)
    return rows


def no_radius(rows: ndarray, random: Generator) -> ndarray:
    return _with(rows, random, 5, float(random.choice([0.0, -1.0, np.nan, np.inf])))


def no_place(rows: ndarray, random: Generator) -> ndarray:
    return _with(rows, random, random.integers(2, 5), float(random.choice([np.nan, np.inf, 1e30])))


def huge_radius(rows: ndarray, random: Generator) -> ndarray:
    return _with(rows, random, 5, 10 ** random.uniform(1.5, 4))


def thin_radius(rows: ndarray, random: Generator) -> ndarray:
    return _with(rows, random, 5, 10 ** random.uniform(-6, -1.5), count=2)


def far_node(rows: ndarray, random: Generator) -> ndarray:
    return _with(rows, random, 2, 10 ** random.uniform(3, 6))


def many_roots(rows: ndarray, random: Generator) -> ndarray:
    return _with(rows, random, 6, float(random.choice([-1, 0, 999])), count=3)


def numbers_twice(rows: ndarray, random: Generator) -> ndarray:
    return np.vstack([rows, _with(rows, random, 3, 1.0, count=4)[::2]])


def reversed_order(rows: ndarray, random: Generator) -> ndarray:
    return random.permutation(rows)


def all_in_one_place(rows: ndarray, random: Generator) -> ndarray:
    del random
    return rows * [1, 1, 0, 0, 0, 1, 1]


def pinching(rows: ndarray, random: Generator) -> ndarray:
    """Two balls that touch, overlap by a hair or are apart by one."""
    del rows
    apart = 5 * (1 + random.choice([-1, 0, 1]) * 10 ** random.uniform(-9, -2))
    return np.array([[1.0, 1, 0, 0, 0, 2, -1], [2, 1, 0, 0, apart, 3, -1]])


def hourglass(rows: ndarray, random: Generator) -> ndarray:
    del rows
    waist = 10 ** random.uniform(-3, -1)
    radii = [2.0, 1.0, waist, 1.0, 2.0]
    return np.array([[i + 1, 3, 0, 0, 3 * i, r, i or -1] for i, r in enumerate(radii)])


def parallel_branches(rows: ndarray, random: Generator) -> ndarray:
    """Two long neurites beside one another, with a cleft of a hair or none."""
    del rows
    beside = 2 * 0.4 * (1 + random.choice([-1, 1]) * 10 ** random.uniform(-4, -0.7))
    soma = [[1.0, 1, 0, 0, -4, 3, -1]]
    pairs = [(i, x) for x in (0.0, beside) for i in range(10)]
    return np.array(
        soma
        + [[n + 2, 3, x, 0, 3 * i, 0.4, 1 if not i else n + 1] for n, (i, x) in enumerate(pairs)]
    )


def closed_loop(rows: ndarray, random: Generator) -> ndarray:
    """Neurites that meet again at their ends."""
    del rows
    turn = np.linspace(-np.pi, np.pi, 21)[1:]
    thick = random.uniform(0.3, 0.8)
    ring = [
        [i + 1.0, 3, 6 * np.cos(t), 6 * np.sin(t), 0, thick, i or -1] for i, t in enumerate(turn)
    ]
    return np.array(ring)


def crossing_branches(rows: ndarray, random: Generator) -> ndarray:
    del rows
    ends = random.uniform(-8, 8, (12, 2, 3))
    nodes = [
        [n + 1.0, 3, *place, 0.5, n if n % 2 else -1] for n, place in enumerate(ends.reshape(-1, 3))
    ]
    return np.array(nodes)


def one_node(rows: ndarray, random: Generator) -> ndarray:
    return rows[[random.integers(len(rows))]]


def other_scale(rows: ndarray, random: Generator) -> ndarray:
    factor = random.choice([1e-6, 1e-3, 1e3])
    return rows * [1, 1, factor, factor, factor, factor, 1]


def odd_numbers(rows: ndarray, random: Generator) -> ndarray:
    return _with(rows, random, random.choice([0, 6]), float(random.choice([2.5, 1e25, np.nan])))


SKELETONS: tuple[Callable[[ndarray, Generator], ndarray], ...] = (
    *(cycle, no_radius, no_place, huge_radius, thin_radius, far_node, many_roots, numbers_twice),
    *(reversed_order, all_in_one_place, pinching, hourglass, parallel_branches, closed_loop),
    *(crossing_branches, one_node, other_scale, odd_numbers),
)


def swc(rows: ndarray) -> bytes:
    def word(column: int, value: float) -> str:
        whole = column in (0, 1, 6) and np.isfinite(value) and value == int(value)
        return str(int(value)) if whole else repr(float(value))

    lines = (" ".join(word(i, value) for i, value in enumerate(row)) for row in rows.tolist())
    return ("# broken on purpose\n" + "\n".join(lines) + "\n").encode()


def damaged(content: bytes, random: Generator) -> bytes:
    """Bytes replaced, a stretch cut out or doubled, the end gone."""
    data = bytearray(content)
    for place in random.integers(0, len(data), random.integers(1, 6)):
        data[place] = random.integers(256)
    start = int(random.integers(len(data)))
    stretch = data[start : start + int(random.integers(200))]
    kind = random.integers(3)
    if kind == 0:
        del data[start : start + len(stretch)]
    elif kind == 1:
        data[start:start] = stretch
    else:
        del data[max(start, 1) :]
    return bytes(data)


def cases(count: int = 200, seed: int = 14) -> Iterator[Case]:
    """Half surfaces and half skeletons; every kind in turn, each with a draw of its own."""
    for number in range(count):
        random = np.random.default_rng([seed, number])
        turn = number // 2
        if number % 2:
            break_rows = (*SKELETONS, None)[turn % (len(SKELETONS) + 1)]
            content = swc(tree(random) if break_rows is None else break_rows(tree(random), random))
            kind, file = break_rows.__name__ if break_rows else "damaged bytes", "broken.swc"
        else:
            break_body = (*SURFACES, None)[turn % (len(SURFACES) + 1)]
            soup = body(random)
            content = ply(*(soup if break_body is None else break_body(*soup, random)))
            kind, file = break_body.__name__ if break_body else "damaged bytes", "broken.ply"
        if kind == "damaged bytes":
            content = damaged(content, random)
        yield Case(f"{file[-3:]}: {kind.replace('_', ' ')}", file, content)


def attempt(case: Case, folder: Path) -> tuple[str, str]:
    """What becomes of a case (meshed, repaired, refused; in capitals what is wrong), and words."""
    path, out = folder / case.file, folder / "made.zarr"
    path.write_bytes(case.content)
    words = (["mesh", str(path), "--check"], ["mesh", str(path), "--out", str(out), "--force"])
    for done in [CliRunner().invoke(cli.app, each) for each in words]:
        refused = isinstance(done.exception, SpinmeshError)
        if not refused and not isinstance(done.exception, SystemExit | None):
            return "TRACEBACK", "".join(traceback.format_exception(done.exception))[-600:]
        if done.exit_code not in (0, 1):
            return "EXIT", f"{done.exit_code}: {done.output}"
    if refused:
        return "refused", str(done.exception)
    made = load(TetMesh, out)
    worst = float(quality(made.points.numpy(), made.tets.numpy()).min())
    if not worst > FLATTEST:
        return "FLAT", f"{worst:.3g}"
    changed = any(word in done.output for word in ("repaired", "mended", "left away", "inside out"))
    return "repaired" if changed else "meshed", f"worst quality {worst:.2g}"


def run(case: Case) -> tuple[str, float, str]:
    """The outcome of a case in a process of its own, its CPU seconds, and words."""

    def child() -> None:
        with tempfile.TemporaryDirectory() as folder:
            outcome = attempt(case, Path(folder))
        spent = [
            resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        ]
        sender.send((outcome, sum(each.ru_utime + each.ru_stime for each in spent)))

    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=child)
    process.start()
    sender.close()
    if not receiver.poll(PATIENCE):
        process.terminate()
        return "HUNG", PATIENCE, ""
    try:
        (outcome, words), seconds = receiver.recv()
    except EOFError:
        return "CRASHED", 0.0, f"exit code {process.exitcode}"
    process.join()
    return ("SLOW" if seconds > SLOWEST else outcome), seconds, words


def main(count: int = 200, only: str = "") -> None:
    """A line for each case, then the table; files that went wrong are left in the folder KEEP."""
    outcomes, slowest = defaultdict[str, Counter[str]](Counter), defaultdict[str, float](float)
    for number, case in enumerate(cases(count)):
        if only not in case.kind:
            continue
        outcome, seconds, words = run(case)
        outcomes[case.kind][outcome] += 1
        slowest[case.kind] = max(slowest[case.kind], seconds)
        print(f"{number} {case.kind}: {outcome}, {seconds:.1f} s: {words.strip()}", flush=True)
        if "KEEP" in os.environ and outcome.isupper():
            (Path(os.environ["KEEP"]) / f"{number}_{case.file}").write_bytes(case.content)
    print("| kind | meshed | repaired | refused | wrong | slowest, CPU s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for kind, outcome in sorted(outcomes.items()):
        fine = [outcome[word] for word in ("meshed", "repaired", "refused")]
        cells = [kind, *fine, outcome.total() - sum(fine), f"{slowest[kind]:.1f}"]
        print("| " + " | ".join(map(str, cells)) + " |")
    total = sum(outcomes.values(), Counter[str]())
    print(dict(total))
    sys.exit(any(word.isupper() for word in total))


if __name__ == "__main__":
    main(*(int(word) if word.isdigit() else word for word in sys.argv[1:]))
