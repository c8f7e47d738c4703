"""The whole configuration: read it, check it, and say in one line per mistake how to mend it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, NonNegativeInt, ValidationError, model_validator

from spinmesh.errors import ConfigError
from spinmesh.settings.complaints import complaints
from spinmesh.settings.mesh import Mesh
from spinmesh.settings.phantom import PhantomSettings
from spinmesh.settings.physics import AcquisitionFiles, Simulate, TissueSettings
from spinmesh.settings.presets import PRESETS, merged
from spinmesh.settings.reconstruct import Reconstruct
from spinmesh.settings.setting import Setting
from spinmesh.settings.synthesise import Synthesise


class Config(Setting):
    """A run of spinmesh: shapes, signals, reconstruction and images."""

    run: str = Field("demo", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run; its results go to results/<run>/."""
    seed: NonNegativeInt = 1
    """Every random number follows from it."""
    preset: Literal["demo", "quick", "careful"] = "demo"
    """Values of the keys left out; quick: to see whether it works; careful: hours, to publish."""
    mesh: Mesh = Mesh()
    """Stage 1."""
    tissue: TissueSettings = TissueSettings()
    """What fills the substrates."""
    user_tissue: TissueSettings | None = None
    """What fills the user mesh; null: the same as `tissue`."""
    acquisition: AcquisitionFiles
    """What is measured."""
    simulate: Simulate = Simulate()
    """Stage 2."""
    reconstruct: Reconstruct = Reconstruct()
    """Stage 3."""
    synthesise: Synthesise = Synthesise()
    """Stage 4."""
    phantom: PhantomSettings = PhantomSettings()
    """Diffusion images, made on demand: `snakemake phantom`."""

    @model_validator(mode="before")
    @classmethod
    def _over_preset(cls, values: Any) -> Any:
        """Keys left out are the preset's, and of the rest the defaults."""
        if not isinstance(values, Mapping):
            return values
        return merged(PRESETS.get(str(values.get("preset")), {}), values)

    def files(self) -> dict[str, str]:
        """The input files it names, keyed by where it names them."""
        found = {f"acquisition.{key}": path for key, path in self.acquisition.files().items()}
        if self.mesh.user_mesh is not None:
            found["mesh.user_mesh.path"] = self.mesh.user_mesh.path
        if self.reconstruct.signal is not None:
            named = self.reconstruct.signal.files()
            found |= {f"reconstruct.signal.{key}": path for key, path in named.items()}
        if self.phantom.acquisition is not None:
            named = self.phantom.acquisition.files()
            found |= {f"phantom.acquisition.{key}": path for key, path in named.items()}
        return found


def load_config(path: str | Path, root: str | Path = ".") -> Config:
    """Read a YAML configuration; paths inside it count from `root`, the working directory.

    Raises ConfigError with key, value and remedy of every mistake.
    """
    return validate_config(_read_yaml(Path(path)), root, str(path))


def load_tissue(path: str | Path) -> TissueSettings:
    """Read a tissue.yaml: the section `tissue` of a configuration, in a file of its own."""
    try:
        return TissueSettings.model_validate(_read_yaml(Path(path)))
    except ValidationError as error:
        schema = TissueSettings.model_json_schema()
        raise ConfigError("\n".join(complaints(error, str(path), schema))) from error


def _read_yaml(path: Path) -> Any:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file. Start from config/config.yaml.")
    try:
        return yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML. {error}") from error


def validate_config(values: Any, root: str | Path = ".", name: str = "config") -> Config:
    """The configuration held by plain `values`; see `load_config`."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{name}: empty. Start from config/config.yaml.")
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(complaints(error, name, json_schema()))) from error
    missing = [
        f"{name}: `{key}`: there is no file {path} in {Path(root).resolve()}. Correct the path."
        for key, path in config.files().items()
        if not (Path(root) / path).is_file()
    ]
    if missing:
        raise ConfigError("\n".join(missing))
    return config


def json_schema() -> dict[str, Any]:
    """JSON schema of the configuration, for the workflow and for editors."""
    schema = Config.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_for_other_tools(schema),
    }


def _for_other_tools(node: Any) -> Any:
    """The schema without infinite defaults, which are no JSON (the description tells them).

    Where a value may be null, null comes first: Snakemake fills in defaults while it tries the
    branches in turn, and would fill them into null.
    """
    if isinstance(node, dict):
        kept = {
            key: _for_other_tools(value)
            for key, value in node.items()
            if key != "default" or "Infinity" not in json.dumps(value)
        }
        if "anyOf" in kept:
            kept["anyOf"].sort(key=lambda branch: branch.get("type") != "null")
        return kept
    return [_for_other_tools(value) for value in node] if isinstance(node, list) else node


def schema_text() -> str:
    """The schema as it is committed."""
    return json.dumps(json_schema(), indent=2, allow_nan=False) + "\n"
