"""A run may ask only for what is possible, and is told how to mend the rest."""

import copy
import json
import math
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from spinmesh.errors import ConfigError, SequenceError
from spinmesh.inputs.building import BUNDLES, VOLUMES, build
from spinmesh.inputs.checking import check_inputs
from spinmesh.settings import (
    load_config,
    schema_text,
    validate_config,
)
from spinmesh.settings.loading import PRESETS
from spinmesh.settings.maps import Maps
from spinmesh.settings.mesh import SHAPE_PARAMETERS
from spinmesh.tissue import Tissue

ROOT = Path(__file__).parents[1]
FSL = {"bvals": "b", "bvecs": "v", "delta_ms": 8, "Delta_ms": 19}
# Of workflows with a configuration of their own.
OWN = {"maps": Maps}
COMMITTED = sorted((ROOT / "config").rglob("*.yaml"))
CONFIGS = [path for path in COMMITTED if path.stem not in OWN]
CONFIGS_OF_OWN = [path for path in COMMITTED if path.stem in OWN]


def demo() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    return values


def edited(path: str, value: Any) -> dict[str, Any]:
    """The demonstration with one value replaced; `path` has dots between keys."""
    values = demo()
    node: Any = values
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in parents:
        node = node[key] if isinstance(node, list) else node.setdefault(key, {})
    node[last] = copy.deepcopy(value)
    return values


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_committed_configuration_is_valid(path: Path) -> None:
    config = load_config(path, ROOT)
    assert validate_config(config.model_dump(mode="json"), ROOT) == config, (
        "defaults written out change nothing"
    )


@pytest.mark.parametrize("path", CONFIGS_OF_OWN, ids=lambda path: path.stem)
def test_configuration_of_a_workflow_of_its_own_is_valid(path: Path) -> None:
    kind = OWN[path.stem]
    config = kind.checked(yaml.safe_load(path.read_text()), path.name)
    assert kind.checked(config.model_dump(mode="json"), path.name) == config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_workflow_accepts_the_same_configurations(path: Path) -> None:
    from snakemake.exceptions import WorkflowError
    from snakemake.utils import validate

    schema = str(ROOT / "workflow/schemas/config.schema.json")
    values = yaml.safe_load(path.read_text())
    assert validate(values, schema, set_default=False) is None
    with pytest.raises(WorkflowError, match="reconstrct"):
        validate(values | {"reconstrct": {}}, schema, set_default=False)


def test_committed_schema_and_page_are_current() -> None:
    committed = (ROOT / "workflow/schemas/config.schema.json").read_text()
    page = (ROOT / "docs/configuration.md").read_text()
    assert committed == schema_text(), "run `make schema`"
    renewed = runpy.run_path(str(ROOT / "docs/make_configuration.py"))["renewed"]
    assert page == renewed(page), "run `make schema`"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_fills_in_what_a_configuration_leaves_out(preset: str) -> None:
    """Every value of a preset is taken, and gives way to a key of the file; the rest is default."""

    def flat(values: Any, path: str = "") -> dict[str, Any]:
        if not isinstance(values, dict):
            return {path: values}
        return {
            k: v for key, value in values.items() for k, v in flat(value, f"{path}.{key}").items()
        }

    asked = flat(json.loads(json.dumps(PRESETS[preset])))
    values = {"acquisition": demo()["acquisition"]}
    default, found = (
        flat(validate_config(values | {"preset": word}, ROOT).model_dump(mode="json"))
        for word in ("demo", preset)
    )
    assert found == default | asked | {".preset": preset}
    own = edited("synthesise.score_model.iterations", 7) | {"preset": preset}
    assert validate_config(own, ROOT).synthesise.score_model.iterations == 7


def test_every_key_is_described() -> None:
    schema = json.loads(schema_text())
    for section in [schema, *schema["$defs"].values()]:
        for key, node in section.get("properties", {}).items():
            assert len(node.get("description", "")) > 5, key


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("mesh.templat", {}, ["unknown key `mesh.templat`", "Did you mean `template`?"]),
        ("mesh.inputs.1.scale", 1, ["`mesh.inputs.1.scale`", "`scale_to_um`"]),
        ("mesh.ranges.bend_rad", [0, 1], ["`mesh.ranges.bend_rad`", "Did you mean `bend`?"]),
        ("mesh.families.bead", 3, ["`mesh.families.bead`", "Did you mean `beading`?"]),
        ("tissue.compartments.1.t2", 3, ["`tissue.compartments.1.t2`", "`t2_ms`"]),
        ("simulate.basis.kind", "kryllov", ["'kryllov'", "Did you mean `krylov`?"]),
        ("mesh.template.rings", 0, ["`mesh.template.rings` is 0", "greater than 0"]),
        ("mesh.ranges.bend", [0.3, 0.1], ["`mesh.ranges.bend`", "low 0.3 exceeds high 0.1"]),
        ("mesh.ranges.bend", [0.0, 1.0], ["ranges.bend is 1", "give 0 to 0.5"]),
        ("mesh.target.shape", {"fan_angle_deg": 120}, ["target.shape.fan_angle_deg is 120"]),
        ("mesh.families", {"beading": 0}, ["every count is 0"]),
        ("mesh.families.beading", -1, ["`mesh.families.beading` is -1"]),
        ("mesh.split.train", 0.9, ["`mesh.split`", "1.1", "make it 1"]),
        ("tissue.compartments", {}, ["`tissue.compartments`", "at least 1"]),
        ("tissue.compartments.1.diffusivity_um2_per_ms", -2.0, ["is -2.0", "greater than 0"]),
        ("tissue.walls", [{"compartment": 1, "permeability_um_per_ms": -1}], ["is -1"]),
        ("simulate.snr", 0, ["`simulate.snr` is 0"]),
        ("acquisition", {}, ["bvals, bvecs, delta_ms, Delta_ms missing"]),
        ("acquisition", FSL | {"scheme": "s"}, ["`scheme` excludes bvals"]),
        ("acquisition", FSL | {"delta_ms": 40}, ["delta_ms 40 exceeds Delta_ms 19"]),
        ("acquisition", {"scheme": "absent.scheme"}, ["`acquisition.scheme`", "no file"]),
        ("mesh.inputs.1.path", "absent.msh", ["`mesh.inputs.1.path.0`", "absent.msh"]),
        ("mesh.inputs", "config/*.ply", ["`mesh.inputs`", "config/*.ply stands for no file"]),
        ("mesh.inputs", "docs/images", ["docs/images stands for no file of "]),
        ("mesh.inputs", {"path": "config/demo/*.ply", "name": "x"}, ["2 files", "called x"]),
        ("mesh.inputs", ["config/demo/axon.ply"] * 2, ["2 entries are called config-demo-axon"]),
        ("mesh.inputs.2.tight_um", 1, ["`mesh.inputs.2`", "box excludes tight"]),
        ("mesh.inputs", {"name": "x"}, ["give a path or a bundle"]),
        ("mesh.inputs", {"bundle": {}}, ["give the bundle a `name`"]),
        ("mesh.inputs", {"bundle": {}, "name": "x", "box": True}, ["leave box away"]),
        ("mesh.inputs", {"path": "config/demo/axon.ply", "count": 2}, ["count is that of bundles"]),
        ("mesh.inputs", {"bundle": {"g_ratio": 2}, "name": "x"}, ["bundle.g_ratio` is 2"]),
        ("mesh.user_mesh", {"path": "a.msh"}, ["unknown key `mesh.user_mesh`", "inputs"]),
        ("reconstruct.signal", {"csv": "a", "nifti": "b"}, ["either `csv` or `nifti`"]),
        ("reconstruct.signal", {"nifti": "b"}, ["`voxel: [i, j, k]`"]),
        (
            "synthesise",
            {
                "score_model": {"sde": "double-well", "target": "ito"},
                "samples": {"sampler": "heun"},
            },
            ["samples: sampler heun wants a denoiser", "choose from auto, splitting"],
        ),
        ("reconstruct.gpus", 2, ["reconstruct", "gpus 2 on device cpu", "give `device: cuda`"]),
        ("synthesise.images.pixels", 20, ["`synthesise.images.pixels` is 20", "multiple of 8"]),
        ("run", "../elsewhere", ["`run`", "results/<run>/"]),
        ("seed", -1, ["`seed` is -1"]),
    ],
)
def test_impossible_value_is_refused_with_its_key_and_remedy(
    path: str, value: Any, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_config(edited(path, value), ROOT)
    for word in words:
        assert word in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1, "one mistake, one line"


def test_two_mistakes_are_told_at_once() -> None:
    values = edited("seed", -1)
    values["mesh"]["templat"] = {}
    with pytest.raises(ConfigError) as caught:
        validate_config(values, ROOT)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(("text", "word"), [("", "empty"), ("a: [1", "not valid YAML")])
def test_unreadable_file_is_refused_by_name(tmp_path: Path, text: str, word: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=f"mine.yaml.*{word}"):
        load_config(file, ROOT)
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "absent.yaml")


def test_shape_keys_are_the_parameters_of_the_mesh() -> None:
    """Every parameter can be set, under its unit; only degrees are converted."""
    from spinmesh.mesh import FAMILIES, PARAMETER_TABLE, internal_values
    from spinmesh.settings.mesh import ShapeKey

    assert set(SHAPE_PARAMETERS) == set(ShapeKey.__args__)  # type: ignore[attr-defined]
    values = internal_values(dict.fromkeys(SHAPE_PARAMETERS, 90.0))
    assert list(values) == list(PARAMETER_TABLE)
    for key, name in zip(SHAPE_PARAMETERS, values, strict=True):
        # One rounding in the conversion to radians.
        expected = math.pi / 2 if key.endswith("_deg") else 90.0
        assert values[name] == pytest.approx(expected, rel=1e-15)
        assert (PARAMETER_TABLE[name][0] == "rad") == key.endswith(("_deg", "_rad"))
    families = json.loads(schema_text())["$defs"]["Mesh"]["properties"]["families"][
        "propertyNames"
    ]["enum"]
    assert families == list(FAMILIES)


def test_tissue_section_builds_the_tissue() -> None:
    tensor = [[2.0, 0.1, 0.0], [0.1, 1.5, 0.0], [0.0, 0.0, 1.0]]
    section = {
        "compartments": {
            1: {"diffusivity_um2_per_ms": 2.0},
            7: {"diffusivity_um2_per_ms": tensor, "t2_ms": 80, "density": 0.7},
        },
        "interfaces": [{"between": [1, 7], "permeability_um_per_ms": 0.1}],
        "walls": [{"compartment": 7, "permeability_um_per_ms": 0.02}],
    }
    tissue = Tissue.from_settings(validate_config(edited("tissue", section), ROOT).tissue)
    assert tissue.labels == (1, 7)
    expected = torch.tensor([(2 * np.eye(3)).tolist(), tensor], dtype=torch.float64)
    assert torch.equal(tissue.diffusivity, expected)
    assert tissue.t2.tolist() == [math.inf, 80.0]
    assert tissue.density.tolist() == [1.0, 0.7]
    assert tissue.between(7, 1) == 0.1 and tissue.wall_permeability == {7: 0.02}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (
            "tissue.compartments.1.diffusivity_um2_per_ms",
            [[1, 2, 0], [2, 1, 0], [0, 0, 1]],
            "compartment 1 is not finite, symmetric and positive definite",
        ),
        (
            "tissue.interfaces",
            [{"between": [1, 2], "permeability_um_per_ms": 0.1}],
            r"interface \(1, 2\): 2 is not among",
        ),
        (
            "tissue.walls",
            [{"compartment": 3, "permeability_um_per_ms": 0}],
            "wall of 3: 3 is not among",
        ),
    ],
)
def test_an_impossible_tissue_is_refused_before_any_job(
    monkeypatch: pytest.MonkeyPatch, path: str, value: Any, words: str
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match=words):
        check_inputs(validate_config(edited(path, value)))


def test_folders_and_patterns_become_entries_with_names_of_their_own(tmp_path: Path) -> None:
    """Files of one name in two folders are told apart; what is no shape is left away."""
    for name in (
        "a/cell.ply",
        "b/cell.ply",
        "b/b.swc",
        "b/README.md",
        "b/.hidden.ply",
        "c d/é.nii.gz",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    values = edited("mesh.inputs", ["a", {"path": "b", "size_um": 2}, "c d", str(tmp_path / "a")])
    values = values | {"acquisition": {"scheme": str(tmp_path / "a/cell.ply")}, "phantom": {}}
    config = validate_config(values, tmp_path)
    names = {entry.name: entry.path[0] for entry in config.mesh.inputs}
    there = str(tmp_path / "a/cell.ply")
    assert list(names.values()) == ["a/cell.ply", "b/b.swc", "b/cell.ply", "c d/é.nii.gz", there]
    assert list(names)[:4] == ["a-cell.ply", "b", "b-cell.ply", "input"]
    assert list(names)[4].endswith("a-cell.ply") and "/" not in list(names)[4]
    assert [entry.size_um for entry in config.mesh.inputs] == [None, 2, 2, None, None]


def test_bundles_are_drawn_as_entries_of_their_own_whose_tissue_is_checked_before_any_job() -> None:
    bundle = {"axons": 3, "layers": 1, "g_ratio": 0.7, "ranges": {"volume_fraction": [0.3, 0.5]}}
    entry = {"name": "pack", "count": 2, "bundle": bundle}
    config = validate_config(edited("mesh.inputs", entry), ROOT)
    assert [(each.name, each.row) for each in config.mesh.inputs] == [("pack-1", 0), ("pack-2", 1)]
    first, second = (build([], each) for each in config.mesh.inputs)
    assert first.mesh.labels == config.mesh.inputs[0].bundle.labels == (1, 2, 3)
    assert first.names[3] == "myelin" and "drawn: volume_fraction 0." in first.notes[0]
    assert first.notes != second.notes and len(first.mesh.points) != len(second.mesh.points)
    check_inputs(config)
    two = {"compartments": {1: {}, 2: {}}}
    values = edited("mesh.inputs", entry | {"tissue": two})
    with pytest.raises(
        ConfigError, match=r"compartments are \(1, 2\), those of the mesh \(1, 2, 3\)"
    ):
        check_inputs(validate_config(values, ROOT))


def test_a_folder_stands_for_all_that_is_read() -> None:
    from spinmesh.meshing.files import SURFACES
    from spinmesh.settings.inputs import ENDINGS
    from spinmesh.skeletons.files import SKELETONS

    assert {*SURFACES, *SKELETONS, *VOLUMES, *BUNDLES} <= set(ENDINGS)


def test_template_is_refined_in_rings_and_layers_alone() -> None:
    template = validate_config(demo(), ROOT).mesh.template
    fine = template.refined(2)
    assert (fine.rings, fine.layers) == (2 * template.rings, 2 * template.layers)
    assert fine.replace(rings=template.rings, layers=template.layers) == template


def test_every_named_file_is_asked_for(tmp_path: Path) -> None:
    """The workflow makes them inputs, so that a changed file reruns what depends on it."""
    (tmp_path / "voxel.csv").write_text("attenuation\n1.0\n")
    own = demo()["acquisition"]
    signal = {"csv": str(tmp_path / "voxel.csv"), "acquisition": own}
    config = validate_config(edited("reconstruct.signal", signal), ROOT)
    files = ["bvals", "bvecs", "Delta_ms"]
    assert sorted(config.files()) == sorted(
        [
            *(f"acquisition.{key}" for key in files),
            *(f"mesh.inputs.{number}.path.0" for number in range(3)),
            "mesh.inputs.2.path.1",
            "reconstruct.signal.csv",
            *(f"reconstruct.signal.acquisition.{key}" for key in files),
            *(f"phantom.acquisition.{key}" for key in files),
        ]
    )


def test_files_named_by_the_demo_are_those_it_describes(monkeypatch: pytest.MonkeyPatch) -> None:
    """194 measurements: one b = 0 and 8 shells of 12 directions at each of two Deltas."""
    from spinmesh.io.acquisitions import read_acquisition

    monkeypatch.chdir(ROOT)
    config = validate_config(demo())
    check_inputs(config)
    acquisition = read_acquisition(**config.acquisition.model_dump())
    assert len(acquisition) == 2 * (1 + 8 * 12)
    assert {(s.delta, s.Delta) for s in acquisition.sequences} == {(8.0, 19.0), (8.0, 49.0)}
    # 17,800 s/mm^2; b is recomputed from the gradient, so to rounding.
    assert float(acquisition.b_value.max()) == pytest.approx(17.8, rel=1e-12)


def test_broken_input_file_is_refused_before_any_job(tmp_path: Path) -> None:
    (tmp_path / "a.bval").write_text("0 1000\n")
    (tmp_path / "a.bvec").write_text("0\n0\n1\n")
    files = {key: str(tmp_path / f"a.{key[:-1]}") for key in ("bvals", "bvecs")}
    values = edited("acquisition", files | {"delta_ms": 8.0, "Delta_ms": 19.0})
    with pytest.raises(SequenceError, match=r"a\.bvec"):
        check_inputs(validate_config(values, ROOT))


def test_schema_is_strict_json() -> None:
    """Infinity, the default T2, is no JSON; other tools must be able to read the schema."""
    strict = json.loads(schema_text(), parse_constant=lambda word: pytest.fail(f"{word} found"))
    assert strict["additionalProperties"] is False


def test_loading_a_configuration_does_not_load_torch() -> None:
    """The workflow reads it at every start; torch alone would cost three seconds."""
    import subprocess
    import sys

    code = (
        "import sys, spinmesh.settings as c; c.load_config('config/config.yaml');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
