"""Where a result comes from: the seed, the configuration and the code that made it."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

GIB = 1 << 30
# Packages whose version changes numbers.
NUMERICS = ("numpy", "scipy", "scikit-fem", "torch")
# Where the workflow says how its stores are made: jobs are programs that nobody starts by hand.
COMMAND = "SPINMESH_COMMAND"


@dataclass(frozen=True)
class Provenance:
    """Written into every store, so that a result names what made it.

    `notes` say in words what was done to an input, such as repairs; `cost` is what it took.
    """

    seed: int = 0
    config_digest: str = "none"
    notes: tuple[str, ...] = ()
    cost: Mapping[str, float] = field(default_factory=dict)


def cost() -> dict[str, float]:
    """CPU seconds of this process and of those it waited for, and the largest one's peak memory."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    # Linux counts KiB, macOS bytes.
    unit = GIB if sys.platform == "darwin" else GIB / 1024
    return {
        "cpu_seconds": sum(use.ru_utime + use.ru_stime for use in uses),
        "peak_gib": max(use.ru_maxrss for use in uses) / unit,
    }


def package_version() -> str:
    """Version of the installed spinmesh."""
    return version("spinmesh")


def origin() -> dict[str, Any]:
    """What a store is made with: versions, git revision, and the command, empty if unknown."""
    program = Path(sys.argv[0]).name
    typed = shlex.join([program, *sys.argv[1:]]) if program == "spinmesh" else ""
    packages = {name: version(name) for name in NUMERICS}
    return {
        "versions": {"python": platform.python_version(), **packages},
        "revision": revision(),
        "command": os.environ.get(COMMAND, typed),
    }


@cache
def revision() -> str:
    """Git revision of the sources, with "-dirty" if they were edited; "unknown" without a clone."""
    clone = SOURCES.parent
    if not (clone / ".git").exists():
        return "unknown"
    words = ["git", "-C", str(clone), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        answer = subprocess.run(words, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return answer.stdout.strip() or "unknown"


def config_digest(config: Any) -> str:
    """Short digest of a plain configuration (dicts, lists, numbers), independent of key order."""
    text = json.dumps(config, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


SOURCES = Path(__file__).parents[1]
OURS = ("spinmesh", "experiments")


def code_digest(script: str | Path, packages: Iterable[str] = (), sources: Path = SOURCES) -> str:
    """Digest of the statements of a script and of all that it imports from spinmesh.

    Packages are looked for in `sources` and the folder above. Comments, docstrings and layout do
    not count: the syntax tree is hashed. A name imported from a package counts the file that
    defines it. `packages` are distributions whose version changes results.
    """
    pending, texts = [Path(script)], dict[Path, str]()
    while pending:
        file = pending.pop()
        if file not in texts:
            texts[file] = file.read_text()
            homes = (_home(*imported, sources) for imported in _imports(texts[file]))
            pending += [home for home in homes if home is not None]
    lines = [f"{file.name} {_dumped(texts[file])}" for file in sorted(texts)]
    lines += [f"{package} {version(package)}" for package in sorted(packages)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


@cache
def _statements(text: str) -> ast.Module:
    """The syntax tree without bare strings, which are documentation wherever they stand."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            code = []
            for line in node.body:
                value = line.value if isinstance(line, ast.Expr) else None
                if not (isinstance(value, ast.Constant) and isinstance(value.value, str)):
                    code.append(line)
            node.body = code or [ast.Pass()]
    return tree


@cache
def _dumped(text: str) -> str:
    return ast.dump(_statements(text))


@cache
def _imports(text: str) -> tuple[tuple[str, str], ...]:
    """(module, name) of every import of our own in a text, wherever it stands.

    After `import spinmesh`, `spinmesh.name` counts as one, and so does a word
    "spinmesh.module:name", which names what another process runs.
    """
    imports: list[tuple[str, str]] = []
    for node in ast.walk(_statements(text)):
        if isinstance(node, ast.Import):
            imports += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports += [(node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            imports.append((node.value.id, node.attr))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            module, colon, name = node.value.partition(":")
            imports += [(module, name)] if colon else []
    return tuple(pair for pair in imports if pair[0].partition(".")[0] in OURS)


def _home(module: str, name: str, sources: Path) -> Path | None:
    """The file behind `from module import name`, followed through packages that pass it on."""
    file = _file(f"{module}.{name}".rstrip("."), sources) or _file(module, sources)
    if file is not None and file.name == "__init__.py" and name in (homes := _passed_on(file)):
        return _home(*homes[name], sources)
    return file


def _passed_on(package: Path) -> dict[str, tuple[str, str]]:
    """What a package imports at its top or lists in HOME: (module, name there) by its name."""
    homes: dict[str, tuple[str, str]] = {}
    for node in _statements(package.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            homes |= {
                each.asname or each.name: (node.module or "", each.name) for each in node.names
            }
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "HOME":
            for module, names in ast.literal_eval(node.value).items():
                homes |= {name: (module, name) for name in names.split()}
    return homes


def _file(module: str, sources: Path) -> Path | None:
    """The file of a module; None for a name inside a module."""
    paths = [folder.joinpath(*module.split(".")) for folder in (sources, sources.parent)]
    files = (file for path in paths for file in (path.with_suffix(".py"), path / "__init__.py"))
    return next((file for file in files if file.is_file()), None)
