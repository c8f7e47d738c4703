"""Types are checked in every test: shapes by jaxtyping, the rest by beartype."""

import os
import sys
from functools import partial
from typing import Any, get_args, get_type_hints

import jaxtyping
import pytest
import torch
from beartype import beartype

# What is compiled is kept: without it the jobs of a workflow spend half their time on compiling.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

check_shapes = jaxtyping.jaxtyped


def has_shape(hint: Any) -> bool:
    """Whether a jaxtyping annotation stands anywhere in the hint."""
    is_shape = isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)
    return is_shape or any(has_shape(part) for part in get_args(hint))


def check_types(function: Any = None, *, typechecker: Any) -> Any:
    """What the hook puts on every function: jaxtyping only where a shape is written.

    Where none is, beartype alone checks the same; jaxtyping's own work for each call would be a
    third of the time of a test of small matrices.
    """
    if function is None:
        return partial(check_types, typechecker=typechecker)
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError:  # A class that is being defined; jaxtyping knows what to do.
        return check_shapes(function, typechecker=typechecker)
    if isinstance(function, type) or any(map(has_shape, hints.values())):
        return check_shapes(function, typechecker=typechecker)
    return beartype(function)


# Has to come before the first import of spinmesh; users of the package never pay for it.
jaxtyping.jaxtyped = check_types
jaxtyping.install_import_hook("spinmesh", "beartype.beartype")
# Small sets of images, and an object store, that several folders use; imported after the hook.
pytest_plugins = ["image_sets", "buckets"]


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """One worker runs the tests of a file, and all that look at the tiny run; no GPU, no gpu tests.

    For `pytest -n 2 --dist loadgroup --no-loadscope-reorder`, where those that run whole workflows
    come first, so that no worker is left alone with them at the end.
    """
    for item in items:
        file = "tiny" if "run" in getattr(item, "fixturenames", ()) else item.path.as_posix()
        item.add_marker(pytest.mark.xdist_group(file))
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
    if hasattr(config, "workerinput"):
        workflows = ("workflow", "experiments")
        items.sort(key=lambda item: item.path.parent.name not in workflows)
