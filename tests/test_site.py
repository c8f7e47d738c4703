"""The documentation site builds without a warning, and everything in it leads somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

import spinmesh

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it, with figures of the examples where they were drawn."""
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_every_link_of_the_site_leads_somewhere(site: Path) -> None:
    """To a file, and to a place in it that is there; addresses on the web are not asked for."""
    texts = {page: page.read_text() for page in site.rglob("*.html")}
    places = {
        page: set(re.findall(r'\b(?:id|name)="([^"]+)"', text)) for page, text in texts.items()
    }
    links = 0
    for page, text in texts.items():
        for link in re.findall(r'\b(?:href|src)="([^"]*)"', text):
            name, _, anchor = unquote(link).partition("#")
            if re.match(r"[a-z]+:", link) or page.name == "404.html":
                continue
            target = (page.parent / name).resolve() if name else page
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{page.relative_to(site)}: {link}"
            # The theme's own script makes these.
            if anchor and target in places and not anchor.startswith("__"):
                assert anchor in places[target], f"{page.relative_to(site)}: {link}"
            links += 1
    assert links > 1000


@pytest.mark.slow
def test_the_reference_has_all_that_the_package_exports(site: Path) -> None:
    text = (site / "reference.html").read_text()
    headings = set(re.findall(r'id="spinmesh\.[\w.]*?(\w+)"', text))
    assert set(spinmesh.__all__) <= headings


@pytest.mark.slow
def test_formulas_are_drawn_without_a_script(site: Path) -> None:
    """No dollar sign of a formula is left, and nothing is fetched from elsewhere."""
    theory = (site / "theory.html").read_text()
    assert theory.count("<math") > 150 and "\\partial" not in theory
    for page in site.rglob("*.html"):
        fetched = re.findall(
            r'<(?:script|link|img)[^>]*(?:src|href)="https?:[^"]*"', page.read_text()
        )
        assert not fetched, page
