"""The cases of `benchmarks/simulator.py`: each a function of the settings that yields rows."""

from collections.abc import Callable, Iterator

from simulator_cases.bases import krylov_against_laplace
from simulator_cases.batch import many_shapes
from simulator_cases.bodies import exact_bodies
from simulator_cases.growth import growth
from simulator_cases.large import large_mesh
from simulator_cases.published import published_protocol
from simulator_cases.table import Row, Settings, machine, printed, write

CASES: dict[str, Callable[[Settings], Iterator[Row]]] = {
    "bodies": exact_bodies,
    "bases": krylov_against_laplace,
    "published": published_protocol,
    "large": large_mesh,
    "growth": growth,
    "batch": many_shapes,
}

__all__ = ["CASES", "Row", "Settings", "machine", "printed", "write"]
