"""Experiments run in the same copies of the workflow as its own tests."""

from tests.workflow.conftest import new_workspace

__all__ = ["new_workspace"]
