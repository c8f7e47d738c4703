"""docs/theory.md names the functions that compute its equations: each of them exists."""

import importlib
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "theory.md"
ROOTS = "mesh|tissue|sequence|fem|reduction|bloch_torrey|analytic|units"
NAMES = sorted(set(re.findall(rf"`((?:{ROOTS})\.[\w.]+)`", PAGE.read_text())))


@pytest.mark.parametrize("name", NAMES)
def test_what_the_theory_page_names_exists(name):
    """`package.module.Class.member`: modules as deep as they go, then attributes."""
    words = name.split(".")
    found = importlib.import_module(f"spinmesh.{words[0]}")
    for depth, word in enumerate(words[1:], 2):
        if not hasattr(found, word):
            importlib.import_module(".".join(["spinmesh", *words[:depth]]))
        assert hasattr(found, word), f"docs/theory.md names {name}, which has no {word}"
        found = getattr(found, word)


def test_the_page_names_the_parts_of_the_chain():
    """A pattern that finds nothing would find nothing wrong."""
    assert {"fem.elements.element_matrices", "reduction.reduced.project"} <= set(NAMES)
    assert len(NAMES) > 20
