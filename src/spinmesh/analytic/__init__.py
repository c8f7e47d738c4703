"""Exact attenuations to judge the simulator by; shares no code with it."""

from spinmesh.analytic.free import free
from spinmesh.analytic.multilayer import (
    cylinder,
    multilayer_cylinder,
    multilayer_sphere,
    slab,
    sphere,
)
