"""Where a result comes from: the seed, the configuration and the code that made it."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Provenance:
    """Written into every store, so that a result names what made it."""

    seed: int = 0
    config_digest: str = "none"


def package_version() -> str:
    """Version of the installed spinmesh."""
    try:
        return version("spinmesh")
    except PackageNotFoundError:
        return "uninstalled"


def config_digest(config: Any) -> str:
    """Short digest of a plain configuration (dicts, lists, numbers), independent of key order."""
    text = json.dumps(config, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_digest(modules: Iterable[str], packages: Iterable[str] = ()) -> str:
    """Digest of the statements of `modules`, of all they import inside spinmesh, and of `packages`.

    Comments, docstrings and layout do not count: it is the syntax tree that is hashed. A name
    imported from a package counts the file that defines it, not the package's other files.
    `packages` are distributions whose version changes results.
    """
    digest = hashlib.sha256()
    for name in sorted(modules_behind(modules)):
        digest.update(f"{name}\n{_dump(_text(name))}\n".encode())
    for package in sorted(packages):
        digest.update(f"{package} {version(package)}\n".encode())
    return digest.hexdigest()[:16]


def modules_behind(modules: Iterable[str]) -> set[str]:
    """`modules` and every module of spinmesh that they need, directly or not."""
    pending, seen = list(modules), set[str]()
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending += _imports(name)
    return seen


def _source(name: str) -> Path | None:
    root = Path(__file__).parent
    path = root.joinpath(*name.split(".")[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _text(name: str) -> str:
    source = _source(name)
    if source is None:
        raise ModuleNotFoundError(f"no source of {name} below {Path(__file__).parent}")
    return source.read_text()


_WITH_BODY = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def _tree(text: str) -> ast.Module:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if not isinstance(node, _WITH_BODY):
            continue
        # A bare string statement is documentation wherever it stands.
        kept = [s for s in node.body if not (isinstance(s, ast.Expr) and _is_text(s.value))]
        node.body = kept or [ast.Pass()]
    return tree


@cache
def _dump(text: str) -> str:
    return ast.dump(_tree(text))


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _imports(name: str) -> list[str]:
    """Modules of spinmesh whose code `name` imports, wherever in it the import stands."""
    found = []
    for node in ast.walk(_tree(_text(name))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found += [_home(node.module, alias.name) for alias in node.names]
    return [m for m in found if m.startswith("spinmesh.") and _source(m) is not None]


def _home(module: str, name: str) -> str:
    """The module behind `from module import name`, followed through packages that pass it on.

    So whoever imports one noun of a package depends on the file that defines it, not on them all.
    """
    if not module.startswith("spinmesh.") or _source(f"{module}.{name}") is not None:
        return f"{module}.{name}"
    source = _source(module)
    if source is not None and source.name == "__init__.py":
        for node in _tree(source.read_text()).body:
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                for alias in node.names:
                    if name == (alias.asname or alias.name):
                        return _home(node.module, alias.name)
    return module
