"""What mkdocs makes of our pages: pages from other files, links that leave docs/, formulas.

README.md is the start, examples/*.py are a gallery (with the figures that `make docs` draws), and
the reference follows from what `spinmesh` exports. Nothing of the package is imported.
"""

from __future__ import annotations

import ast
import os
import re
from html import unescape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
# Pages made of files elsewhere; their links count from where the file is.
OUTSIDE = {"index.md": "README.md", "changelog.md": "CHANGELOG.md"}
DRAWN = ROOT / "build/examples"
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made, and the figures of the examples."""
    made: dict[str, str | bytes] = {"gallery.md": gallery(), "reference.md": reference()}
    made |= {page: (ROOT / source).read_text() for page, source in OUTSIDE.items()}
    made |= {f"gallery/{path.name}": path.read_bytes() for path in DRAWN.glob("*.png")}
    for place, content in made.items():
        files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links into docs/ are followed from the page; other files of the repository are named only."""
    place = page.file.src_uri
    folder = (ROOT / OUTSIDE.get(place, f"docs/{place}")).parent

    def followed(match: re.Match[str]) -> str:
        image, text, target = match.groups()
        name, sharp, anchor = target.partition("#")
        if not name or re.match(r"[a-z]+:", name) or "/" not in name + "/" or place == "gallery.md":
            return match[0]
        file = Path(os.path.normpath(folder / name))
        if file.is_relative_to(ROOT / "docs") and file.is_file():
            inside = os.path.relpath(file, (ROOT / "docs" / place).parent)
            return f"{image}[{text}]({inside}{sharp}{anchor})"
        if not file.exists():
            return match[0]
        return f"{text} (`{file.relative_to(ROOT)}`)" if text not in name else f"`{text}`"

    return LINK.sub(followed, markdown)


def on_page_content(html: str, **_: Any) -> str:
    r"""Formulas as MathML, which browsers draw without a script: \(...\) and \[...\]."""

    def formula(match: re.Match[str]) -> str:
        display = "block" if match[1] == "div" else "inline"
        return convert(unescape(match[2])[2:-2].strip(), display=display)

    return re.sub(r'<(div|span) class="arithmatex">(.*?)</\1>', formula, html, flags=re.DOTALL)


def gallery() -> str:
    """Every example: what it shows, its figure and last words where it was run, its code."""
    parts = ["# Gallery\n\nEach runs as it stands, and ends in a number that a test asserts."]
    for file in sorted((ROOT / "examples").glob("*.py")):
        code = file.read_text()
        title = ast.get_docstring(ast.parse(code)).partition("\n")[0].rstrip(".")
        parts.append(f"## {title}")
        if (DRAWN / f"{file.stem}.png").is_file():
            parts.append(f"![{title}](gallery/{file.stem}.png)")
        if (words := DRAWN / f"{file.stem}.txt").is_file():
            parts.append(f"```text\n{words.read_text().strip()}\n```")
        parts.append(f'```python title="examples/{file.name}"\n{code}```')
    return "\n\n".join(parts)


def reference() -> str:
    """What `spinmesh` exports, by the package that it comes from."""
    tree = ast.parse((ROOT / "src/spinmesh/__init__.py").read_text())
    assigned = {ast.unparse(n.targets[0]): n.value for n in tree.body if isinstance(n, ast.Assign)}
    homes: dict[str, str] = ast.literal_eval(assigned["HOME"])
    parts = ["# Reference", ast.get_docstring(tree)]
    for module, names in homes.items():
        parts.append(f"## {module}")
        parts += [f"::: {module}.{name}" for name in sorted(names.split(), key=str.lower)]
    return "\n\n".join(filter(None, parts))
