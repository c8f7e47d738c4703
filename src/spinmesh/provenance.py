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
    texts = _texts(_stamp())
    for name in sorted(modules_behind(modules)):
        digest.update(f"{name}\n{_dump(texts[name])}\n".encode())
    for package in sorted(packages):
        digest.update(f"{package} {version(package)}\n".encode())
    return digest.hexdigest()[:16]


def modules_behind(modules: Iterable[str]) -> set[str]:
    """`modules` and every module of spinmesh that they need, directly or not."""
    stamp = _stamp()
    pending, seen = list(modules), set[str]()
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending += _imports(stamp, name)
    return seen


# Path, time of change and size of every file of the package: what else is kept is kept under it.
_Stamp = tuple[tuple[str, int, int], ...]


def _stamp() -> _Stamp:
    files = sorted(Path(__file__).parent.rglob("*.py"))
    status = [(path, path.stat()) for path in files]
    return tuple((str(path), s.st_mtime_ns, s.st_size) for path, s in status)


@cache
def _texts(stamp: _Stamp) -> dict[str, str]:
    """The source of every module, by its name."""
    root = Path(__file__).parent.parent
    files = [Path(name) for name, _, _ in stamp]
    names = [".".join(path.relative_to(root).with_suffix("").parts) for path in files]
    return {
        name.removesuffix(".__init__"): path.read_text()
        for name, path in zip(names, files, strict=True)
    }


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


@cache
def _imports(stamp: _Stamp, name: str) -> list[str]:
    """Modules of spinmesh whose code `name` imports, wherever in it the import stands."""
    texts = _texts(stamp)
    if name not in texts:
        raise ModuleNotFoundError(f"no source of {name} below {Path(__file__).parent}")
    found = [
        module if imported is None else _home(texts, module, imported)
        for module, imported in _import_statements(texts[name])
    ]
    return [m for m in found if m.startswith("spinmesh.") and m in texts]


@cache
def _import_statements(text: str) -> tuple[tuple[str, str | None], ...]:
    """(module, None) of `import module`, (module, name) of `from module import name`."""
    found: list[tuple[str, str | None]] = []
    for node in ast.walk(_tree(text)):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found += [(node.module, alias.name) for alias in node.names]
    return tuple(found)


@cache
def _passed_on(text: str) -> dict[str, tuple[str, str]]:
    """What a package imports at its top, by the name it gives it: the module and its name there."""
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for node in reversed(_tree(text).body)
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module
        for alias in node.names
    }


def _home(texts: dict[str, str], module: str, name: str) -> str:
    """The module behind `from module import name`, followed through packages that pass it on.

    So whoever imports one noun of a package depends on the file that defines it, not on them all.
    """
    if not module.startswith("spinmesh.") or f"{module}.{name}" in texts:
        return f"{module}.{name}"
    package = any(other.startswith(f"{module}.") for other in texts)
    if module in texts and package:
        passed = _passed_on(texts[module]).get(name)
        if passed is not None:
            return _home(texts, *passed)
    return module
