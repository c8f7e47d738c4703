"""Where a result comes from: the seed, the configuration and the code that made it."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
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

    Comments, docstrings and layout do not count: it is the syntax tree that is hashed. `packages`
    are distributions whose version changes results.
    """
    pending, seen, digest = list(modules), set(), hashlib.sha256()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        pending += _imports(name)
    for name in sorted(seen):
        digest.update(f"{name}\n{ast.dump(_tree(name))}\n".encode())
    for package in sorted(packages):
        digest.update(f"{package} {version(package)}\n".encode())
    return digest.hexdigest()[:16]


def _source(name: str) -> Path | None:
    root = Path(__file__).parent
    path = root.joinpath(*name.split(".")[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


_WITH_BODY = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _tree(name: str) -> ast.Module:
    source = _source(name)
    if source is None:
        raise ModuleNotFoundError(f"no source of {name} below {Path(__file__).parent}")
    tree = ast.parse(source.read_text())
    for node in ast.walk(tree):
        if not isinstance(node, _WITH_BODY):
            continue
        # A bare string statement is documentation wherever it stands.
        kept = [s for s in node.body if not (isinstance(s, ast.Expr) and _is_text(s.value))]
        node.body = kept or [ast.Pass()]
    return tree


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _imports(name: str) -> list[str]:
    """Modules of spinmesh that `name` imports; importing a name of a package counts the package."""
    found = []
    for node in ast.walk(_tree(name)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.append(node.module)
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return [m for m in found if m.startswith("spinmesh.") and _source(m) is not None]
