"""Puts what `spinmesh init` lays out into the wheel; an editable install has the clone."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PARTS = ("Snakefile", "workflow", "profiles", "envs", "config")


class RunFolder(BuildHookInterface):
    """Called by hatchling for every wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files, from the root of the repository or of the source archive."""
        if version == "standard":
            build_data["force_include"] |= {part: f"spinmesh/run_folder/{part}" for part in PARTS}
