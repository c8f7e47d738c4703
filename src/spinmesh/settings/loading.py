"""The whole configuration: read it, check it, and say in one line per mistake how to mend it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, NonNegativeInt, ValidationError
from pydantic_core import ErrorDetails

from spinmesh.errors import ConfigError
from spinmesh.settings.mesh import Mesh
from spinmesh.settings.phantom import PhantomSection
from spinmesh.settings.physics import AcquisitionSection, Simulate, TissueSection
from spinmesh.settings.published_experiment import Experiment
from spinmesh.settings.reconstruct import Reconstruct
from spinmesh.settings.score_comparison import Evaluation
from spinmesh.settings.section import Section
from spinmesh.settings.synthesise import Synthesise


class Config(Section):
    """A run of spinmesh: shapes, signals, reconstruction and images."""

    run: str = Field("demo", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run; its results go to results/<run>/."""
    seed: NonNegativeInt = 1
    """Every random number follows from it."""
    mesh: Mesh = Mesh()
    """Stage 1."""
    tissue: TissueSection = TissueSection()
    """What fills the substrates."""
    user_tissue: TissueSection | None = None
    """What fills the user mesh; null: the same as `tissue`."""
    acquisition: AcquisitionSection
    """What is measured."""
    simulate: Simulate = Simulate()
    """Stage 2."""
    reconstruct: Reconstruct = Reconstruct()
    """Stage 3."""
    synthesise: Synthesise = Synthesise()
    """Stage 4."""
    phantom: PhantomSection = PhantomSection()
    """Diffusion images, made on demand: `snakemake phantom`."""
    experiment: Experiment = Experiment()
    """The target `paper`: the published experiment."""
    evaluation: Evaluation = Evaluation()
    """The target `evaluate_scores`: score models compared."""

    def plain(self) -> dict[str, Any]:
        """Every option, defaults included, as dicts, lists, numbers and words."""
        return self.model_dump(mode="json")

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


def load_tissue(path: str | Path) -> TissueSection:
    """Read a tissue.yaml: the section `tissue` of a configuration, in a file of its own."""
    try:
        return TissueSection.model_validate(_read_yaml(Path(path)))
    except ValidationError as error:
        complaints = _complaints(error, str(path), TissueSection.model_json_schema())
        raise ConfigError("\n".join(complaints)) from error


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
        raise ConfigError("\n".join(_complaints(error, name, json_schema()))) from error
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


def _complaints(error: ValidationError, name: str, schema: Mapping[str, Any]) -> list[str]:
    """One sentence per wrong key; the branches of a union complain once."""
    said: dict[str, str] = {}
    for detail in error.errors():
        keys, node = _walk(schema, detail["loc"])
        where = ".".join(keys)
        said.setdefault(where, f"{name}: {_complaint(where, detail, node)}")
    return list(said.values())


def _complaint(where: str, detail: ErrorDetails, node: Mapping[str, Any]) -> str:
    if detail["type"] == "extra_forbidden":
        return f"unknown key `{where}`. {_nearest(str(detail['loc'][-1]), node)}"
    if detail["type"] == "missing":
        return f"`{where}` is missing. {node.get('description', '')}".rstrip()
    if detail["type"] == "literal_error":
        known = {"properties": dict.fromkeys(_literals(detail))}
        value = f"`{where}` is {detail['input']!r}"
        what = f"unknown key `{where}`" if "[key]" in detail["loc"] else value
        return f"{what}. {_nearest(str(detail['input']), known)}"
    message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "give a value")
    if detail["type"] == "value_error":
        return f"`{where}`: {message}" + ("" if message.endswith("?") else ".")
    about = node.get("description", "")
    return f"`{where}` is {detail['input']!r}: {message}. {about}".rstrip()


def _nearest(wrong: str, node: Mapping[str, Any]) -> str:
    known = list(node.get("properties", {}))
    close = difflib.get_close_matches(wrong, known, n=1, cutoff=0.5)
    remedy = f"Did you mean `{close[0]}`? " if close else ""
    return f"{remedy}Known here: {', '.join(known)}."


def _literals(detail: ErrorDetails) -> list[str]:
    expected = detail.get("ctx", {}).get("expected", "")
    return [word.strip("' ") for word in expected.replace(" or ", ", ").split(", ")]


def _walk(
    schema: Mapping[str, Any], loc: tuple[int | str, ...]
) -> tuple[list[str], Mapping[str, Any]]:
    """The keys of a location without pydantic's own words, and the schema node there.

    For an unknown key the node is that of its section, which lists the known ones.
    """
    keys: list[str] = []
    node = _resolve(schema, schema)
    for part in loc:
        children = node.get("properties", {})
        if part == "[key]":
            return keys, node
        if part in children:
            node = _described(children[str(part)], schema)
        elif isinstance(node.get("additionalProperties"), Mapping):
            node = _described(node["additionalProperties"], schema)
        elif isinstance(part, int) and ("items" in node or "prefixItems" in node):
            node = _described(node.get("items") or node["prefixItems"][part], schema)
        elif part is not loc[-1] or not children:
            # A word of pydantic's for the branch of a union.
            continue
        keys.append(str(part))
    return keys, node


def _described(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The node behind references, under the description of the key that refers to it."""
    resolved = dict(_resolve(node, schema))
    if "description" in node:
        resolved["description"] = node["description"]
    return resolved


def _resolve(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow `$ref`, and in a union take the branch that has keys."""
    if "$ref" in node:
        return _resolve(schema["$defs"][node["$ref"].rpartition("/")[2]], schema)
    for branch in node.get("anyOf", ()):
        if "$ref" in branch or "items" in branch or "prefixItems" in branch:
            return _resolve(branch, schema)
    return node


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
