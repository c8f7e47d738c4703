"""What `spinmesh` exports is documented: what it is, the shapes of its arrays, and its errors."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import cached_property
from types import FunctionType
from typing import Any

import pytest

import spinmesh


def functions() -> Iterator[tuple[str, FunctionType]]:
    """Exported functions, and the public methods and properties of exported classes."""
    for name in spinmesh.__all__:
        thing = inspect.unwrap(getattr(spinmesh, name))
        if inspect.isclass(thing):
            for key, member in vars(thing).items():
                if not key.startswith("_") and (function := underlying(member)) is not None:
                    yield f"{name}.{key}", function
        else:
            yield name, thing


def underlying(member: Any) -> FunctionType | None:
    """The function of a method, class method or property."""
    for kind, attribute in ((property, "fget"), (cached_property, "func")):
        if isinstance(member, kind):
            return inspect.unwrap(getattr(member, attribute))
    member = member.__func__ if isinstance(member, classmethod | staticmethod) else member
    return inspect.unwrap(member) if inspect.isfunction(member) else None


FUNCTIONS = dict(functions())


def body(function: Callable[..., Any]) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def errors_of(function: Callable[..., Any], deep: bool = True) -> set[str]:
    """Our errors that a function raises, itself or in a private function of its module."""
    names: set[str] = set()
    module = vars(sys.modules[function.__module__])
    for node in ast.walk(body(function)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            names.add(ast.unparse(node.exc.func))
        called = (
            node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        )
        if deep and called.startswith("_") and inspect.isfunction(module.get(called)):
            names |= errors_of(inspect.unwrap(module[called]), deep=False)
    return {name for name in names if name in vars(spinmesh.errors)}


@pytest.mark.parametrize("name", spinmesh.__all__)
def test_it_says_what_it_is(name: str) -> None:
    """A dataclass's own signature does not count."""
    text = getattr(spinmesh, name).__doc__ or ""
    assert len(text.split()) > 3 and not text.startswith(f"{name}(")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_says_what_it_raises(name: str) -> None:
    """By the name of the error, wherever the code beside it tells."""
    text = inspect.getdoc(FUNCTIONS[name])
    assert text, "no docstring"
    assert {error for error in errors_of(FUNCTIONS[name]) if error not in text} == set()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arrays_of_a_signature_have_shapes(name: str) -> None:
    """In the annotation (jaxtyping), or as words such as (measurement, 3) in the docstring."""
    function = FUNCTIONS[name]
    text = inspect.getdoc(function) or ""
    for key, annotation in function.__annotations__.items():
        if str(annotation).strip() in ("Tensor", "ndarray", "np.ndarray", "torch.Tensor"):
            assert "(" in text, f"{key}: {annotation} without a shape"


def test_the_reader_of_errors_sees_one() -> None:
    """Where it is raised, and where a private function beside it raises it."""
    assert errors_of(spinmesh.read_mesh) and errors_of(spinmesh.check_quality) == {"MeshError"}
    assert sum(bool(errors_of(function)) for function in FUNCTIONS.values()) > 10
