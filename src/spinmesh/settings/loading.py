"""The whole configuration: read it, check it, and say in one line per mistake how to mend it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from spinmesh.errors import ConfigError, StoreError
from spinmesh.files.reading import reading
from spinmesh.settings.bundle import PackedBundle
from spinmesh.settings.inputs import expanded
from spinmesh.settings.mesh import Mesh
from spinmesh.settings.phantom import PhantomSettings
from spinmesh.settings.physics import AcquisitionFiles, Simulate, TissueSettings
from spinmesh.settings.reconstruct import Reconstruct
from spinmesh.settings.setting import Setting
from spinmesh.settings.synthesise import Synthesise

DIALECT = "https://json-schema.org/draft/2020-12/schema"


# A configuration is a few hundred lines.
MOST_BYTES = 1_000_000
# How much effort every stage spends. A key of the configuration wins over its preset.
PRESETS: dict[str, dict[str, Any]] = {
    # The defaults of the settings are those of the demonstration: minutes on two cores.
    "demo": {},
    # To see whether everything works.
    "quick": {
        "simulate": {
            "basis": {"tolerance": 1e-4},
            "target_basis": {"kind": "laplace", "modes": 60},
        },
        "reconstruct": {
            "shape_model": {"epochs": 300},
            "iterations": 8,
            "starts": 2,
            "samples": 16,
        },
        "synthesise": {"score_model": {"iterations": 200}, "samples": {"steps": 24}},
        "phantom": {"shape": (12, 12, 3), "voxel_mm": (4.0, 4.0, 4.0)},
    },
    # To publish: hours, better on a cluster (profiles/slurm).
    "careful": {
        "simulate": {
            "basis": {"tolerance": 1e-6},
            "target_basis": {"kind": "laplace", "modes": 240},
            "shards": 16,
        },
        "reconstruct": {
            "shape_model": {"epochs": 4000},
            "iterations": 40,
            "patience": 2,
            "starts": 6,
            "modes": 2,
            "samples": 256,
            "moves": 3,
        },
        "synthesise": {
            "bundles": {"mesh_size_um": 0.5, "shards": 16},
            "score_model": {"iterations": 10_000},
            "samples": {"steps": 192},
        },
        "phantom": {"field": {"samples": 8}},
    },
}


class Config(Setting):
    """A run of spinmesh: shapes, signals, reconstruction and images."""

    run: str = Field("demo", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run; its results go to results/<run>/."""
    seed: int = Field(1, ge=0, lt=2**63)
    """Every random number follows from it."""
    preset: Literal["demo", "quick", "careful"] = "demo"
    """Values of the keys left out; quick: to see whether it works; careful: hours, to publish."""
    mesh: Mesh = Mesh()
    """Stage 1."""
    tissue: TissueSettings = TissueSettings()
    """What fills the substrates, and inputs without a `tissue` of their own."""
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
        return _merged(PRESETS.get(str(values.get("preset")), {}), values)


def load_config(path: str | Path, root: str | Path = ".") -> Config:
    """Read a YAML configuration; paths inside it count from `root`, the working directory.

    Raises ConfigError with key, value and remedy of every mistake.
    """
    return validate_config(_read_yaml(Path(path)), root, str(path))


def load_tissue(path: str | Path) -> TissueSettings:
    """Read a tissue.yaml: the section `tissue` of a configuration, in a file of its own."""
    return TissueSettings.checked(_read_yaml(Path(path)), str(path))


def load_bundle(path: str | Path) -> PackedBundle:
    """Read a packed bundle from a YAML file of its own."""
    return PackedBundle.checked(_read_yaml(Path(path)), str(path))


def _read_yaml(path: Path) -> Any:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file. Start from config/config.yaml.")
    if path.stat().st_size > MOST_BYTES:
        raise ConfigError(f"{path}: {path.stat().st_size:,} bytes are no configuration.")
    try:
        with reading(path, "YAML", "Compare it with config/config.yaml."):
            return yaml.safe_load(path.read_bytes())
    except StoreError as error:
        raise ConfigError(str(error).replace("cannot be read as", "not valid", 1)) from error


def validate_config(values: Any, root: str | Path = ".", name: str = "config") -> Config:
    """The configuration held by plain `values`; see `load_config`."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{name}: empty. Start from config/config.yaml.")
    config = Config.checked(values, name)
    inputs = expanded(config.mesh.inputs, Path(root))
    config = config.replace(mesh=config.mesh.replace(inputs=inputs))
    missing = [
        f"{name}: `{key}`: there is no file {path} in {Path(root).resolve()}. Correct the path."
        for key, path in config.files().items()
        if not (Path(root) / path).is_file() and not (Path(root) / path / "zarr.json").is_file()
    ]
    if missing:
        raise ConfigError("\n".join(missing))
    signal = config.reconstruct.signal
    if signal is None:
        return config
    # FSL's directions of a measured image's acquisition are along the axes of that image.
    if signal.acquisition is None:
        return config.replace(acquisition=config.acquisition.along(signal.nifti))
    signal = signal.replace(acquisition=signal.acquisition.along(signal.nifti))
    return config.replace(reconstruct=config.reconstruct.replace(signal=signal))


def schema_text() -> str:
    """JSON schema of the configuration, for the workflow and for editors, as it is committed."""
    schema = json.dumps({"$schema": DIALECT, **Config.model_json_schema()})
    # Infinity, a default, is no JSON.
    strict = json.loads(schema, parse_constant=lambda _: ".inf")
    return json.dumps(strict, indent=2, allow_nan=False) + "\n"


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`under` with the values of `over` in their place, section by section."""
    values = dict(under)
    for key, value in over.items():
        below = values.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = _merged(below, value)
        values[key] = value
    return values
