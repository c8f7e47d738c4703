"""Experiments run in the same copies of the workflow as its own tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.workflow.conftest import new_workspace

__all__ = ["new_workspace"]


@pytest.fixture(scope="module")
def workspace(request: pytest.FixtureRequest, new_workspace: Callable[[], Any]) -> Any:
    """A workspace in which the module's EXPERIMENT has run with its config TINY."""
    workspace = new_workspace()
    done = workspace.snakemake(*request.module.EXPERIMENT, config=request.module.TINY)
    assert done.returncode == 0, done.stdout
    return workspace
