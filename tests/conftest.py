"""Types are checked in every test: shapes by jaxtyping, the rest by beartype."""

import os
import sys
from dataclasses import is_dataclass
from functools import partial, wraps
from inspect import isgeneratorfunction
from typing import Any, get_args, get_type_hints

import jaxtyping
import pytest
import torch
from beartype import beartype

# What is compiled is kept: without it the jobs of a workflow spend half their time on compiling.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
BY_JAXTYPING = jaxtyping.jaxtyped


def has_shape(hint: Any) -> bool:
    """Whether a jaxtyping annotation stands anywhere in the hint."""
    is_shape = isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)
    return is_shape or any(has_shape(part) for part in get_args(hint))


def check_types(function: Any = None, *, typechecker: Any) -> Any:
    """What the hook puts on every function and class, instead of jaxtyping's own `jaxtyped`.

    That one takes a fifth of the time of a test of small matrices: it checks arguments twice, and
    builds at import the checks of what is never called.
    """
    if function is None:
        return partial(check_types, typechecker=typechecker)
    if isinstance(function, type):
        if is_dataclass(function) and "__init__" in vars(function):
            function.__init__ = check_types(function.__init__, typechecker=typechecker)  # type: ignore[misc]
        return function
    if "<locals>" in function.__qualname__:  # is made anew, and its checks with it, by every call
        return function
    checked: Any = None

    @wraps(function)
    def with_checks(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked
        checked = checked or checks_of(function)
        return checked(*args, **kwargs)

    return with_checks


def checks_of(function: Any) -> Any:
    """The function with its checks; axes of one name are equally long within one call."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError:  # an import of `if TYPE_CHECKING`
        return function
    if not any(map(has_shape, hints.values())):
        return beartype(function)
    if isgeneratorfunction(function):  # beartype would check in the context of who iterates
        return BY_JAXTYPING(function, typechecker=beartype)
    checked = beartype(function)

    def in_own_context(*args: Any, **kwargs: Any) -> Any:
        with BY_JAXTYPING("context"):
            return checked(*args, **kwargs)

    return in_own_context


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
