"""The copy of the workflow that the workflow's own tests use."""

from tests.workflow.conftest import new_workspace as new_workspace
