"""Where a result comes from: the seed, the configuration and the code that made it."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import re
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from importlib.util import cache_from_source
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

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
    return _digest(text)


SOURCES = Path(__file__).parents[1]
OURS = ("spinmesh", "experiments")
# What has been read of source texts, kept where Python keeps what it has compiled of them: to parse
# all takes a second, and every start of the workflow asks for it.
KEPT = Path(cache_from_source(__file__)).with_suffix(".json")
# Modules are followed by their imports.
FILE_NAME = re.compile(r"\w+\.(?!py$)[a-z]+$")
# Of some 250 texts, earlier states too.
MOST_KEPT = 1000


class Source(NamedTuple):
    """What counts of a source text."""

    statements: str
    """Their digest."""
    imports: list[tuple[str, str]]
    """(module, name) of every import of our own, wherever it stands."""
    passed_on: dict[str, tuple[str, str]]
    """What a package imports at its top or lists in HOME: (module, name there) by its name."""
    file_names: list[str]
    """What may be a file beside it, such as "page.html"."""


def code_digest(script: str | Path, packages: Iterable[str] = (), sources: Path = SOURCES) -> str:
    """Digest of the statements of a script and of all that it imports from spinmesh.

    Packages are looked for in `sources` and the folder above. Comments, docstrings and layout do
    not count: the syntax tree is hashed. A name imported from a package counts the file that
    defines it; a file of that folder counts if it is named. `packages` are distributions whose
    version changes results.
    """
    by_text = _kept()
    before, pending, parts = len(by_text), [Path(script)], dict[Path, Source]()
    while pending:
        file = pending.pop()
        if file not in parts:
            parts[file] = _source(file, by_text)
            homes = (_home(*imported, sources, by_text) for imported in parts[file].imports)
            pending += [home for home in homes if home is not None]
    if len(by_text) > before:
        _keep(by_text)
    lines = [f"{file.name} {parts[file].statements}" for file in sorted(parts)]
    beside = {file.with_name(name) for file in parts for name in parts[file].file_names}
    lines += [
        f"{file.name} {_digest(file.read_text())}" for file in sorted(beside) if file.is_file()
    ]
    lines += [f"{package} {version(package)}" for package in sorted(packages)]
    return _digest("\n".join(lines))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _kept() -> dict[str, Source]:
    """By the digest of the text; empty where nothing of use is kept."""
    try:
        if KEPT.stat().st_mtime < Path(__file__).stat().st_mtime:  # read by other rules than these
            return {}
        return {text: Source(*parts) for text, parts in json.loads(KEPT.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _keep(by_text: Mapping[str, Source]) -> None:
    """Replace the file at once, for others may read it; where nothing can be written, do not."""
    with suppress(OSError), TemporaryDirectory(dir=KEPT.parent) as folder:
        new = Path(folder) / KEPT.name
        new.write_text(json.dumps(dict(list(by_text.items())[-MOST_KEPT:])))
        os.replace(new, KEPT)


def _source(file: Path, by_text: dict[str, Source]) -> Source:
    text = file.read_text()
    key = _digest(text)
    if key not in by_text:
        tree = _statements(text)
        strings = (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant))
        names = {word for word in strings if isinstance(word, str) and FILE_NAME.match(word)}
        by_text[key] = Source(
            _digest(ast.dump(tree)), _imports(tree), _passed_on(tree), sorted(names)
        )
    return by_text[key]


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


def _imports(tree: ast.Module) -> list[tuple[str, str]]:
    """After `import spinmesh`, `spinmesh.name` counts as one, and so does a word
    "spinmesh.module:name", which names what another process runs.
    """
    imports: list[tuple[str, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports += [(node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            imports.append((node.value.id, node.attr))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            module, colon, name = node.value.partition(":")
            imports += [(module, name)] if colon else []
    return sorted({pair for pair in imports if pair[0].partition(".")[0] in OURS})


def _passed_on(tree: ast.Module) -> dict[str, tuple[str, str]]:
    homes: dict[str, tuple[str, str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            homes |= {
                each.asname or each.name: (node.module or "", each.name) for each in node.names
            }
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "HOME":
            for module, names in ast.literal_eval(node.value).items():
                homes |= {name: (module, name) for name in names.split()}
    return homes


def _home(module: str, name: str, sources: Path, by_text: dict[str, Source]) -> Path | None:
    """The file behind `from module import name`, followed through packages that pass it on."""
    file = _file(f"{module}.{name}".rstrip("."), sources) or _file(module, sources)
    if file is not None and file.name == "__init__.py":
        passed_on = _source(file, by_text).passed_on
        if name in passed_on:
            return _home(*passed_on[name], sources, by_text)
    return file


def _file(module: str, sources: Path) -> Path | None:
    """The file of a module; None for a name inside a module."""
    paths = [os.path.join(folder, *module.split(".")) for folder in (sources, sources.parent)]
    files = (path + end for path in paths for end in (".py", "/__init__.py"))
    return next((Path(file) for file in files if os.path.isfile(file)), None)
