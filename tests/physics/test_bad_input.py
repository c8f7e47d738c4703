"""Every bad input is refused before any compute, in words that say where and what to do."""

import meshio
import numpy as np
import pytest
import torch

from spinmesh import machine
from spinmesh.bloch_torrey import Basis, check_resolution, reduce_mesh
from spinmesh.bloch_torrey import basis as basis_module
from spinmesh.bloch_torrey.basis import needed_memory
from spinmesh.bodies import signals_of, simulate
from spinmesh.errors import (
    ConfigError,
    MeshError,
    ReductionError,
    ResolutionWarning,
    SequenceError,
)
from spinmesh.io.acquisitions import read_acquisition
from spinmesh.io.meshes import read_mesh, write_mesh
from spinmesh.mesh import SweptDisk, TetMesh, ball, nested_cylinder
from spinmesh.sequence import Acquisition
from spinmesh.settings import load_tissue
from spinmesh.tissue import Tissue

NAN, INF = float("nan"), float("inf")
Z = [[0.0, 0.0, 1.0]]


def two_compartments():
    return nested_cylinder(SweptDisk(rings=2, layers=2, radius_um=4.0, length_um=8.0, order=1), 1)


def pgse():
    return Acquisition.pgse([1.0], Z, 10.0, 40.0)


def tissue(labels=(1, 2), **changes):
    count = len(labels)
    parts = {
        "diffusivity": 2 * torch.eye(3).double().repeat(count, 1, 1),
        "t2": torch.full((count,), INF).double(),
        "density": torch.ones(count).double(),
    }
    for name, value in changes.items():
        if name in parts:
            parts[name][-1] = torch.as_tensor(value, dtype=torch.float64)
    rest = {name: value for name, value in changes.items() if name not in parts}
    return Tissue(labels, **parts, **rest)


def tensor(*rows):
    return torch.tensor(rows).double()


WRONG_TISSUES = {
    "kappa < 0": (
        lambda: tissue(permeability={(1, 2): -0.1}),
        "permeability of interface .1, 2. is -0.1",
    ),
    "kappa nan": (lambda: tissue(permeability={(1, 2): NAN}), "give a finite number"),
    "kappa inf": (lambda: tissue(permeability={(1, 2): INF}), "one label to both compartments"),
    "wall < 0": (lambda: tissue(wall_permeability={2: -1.0}), "wall of 2.*>= 0"),
    "wall nan": (lambda: tissue(wall_permeability={2: NAN}), "wall of 2.*>= 0"),
    "D < 0": (lambda: tissue(diffusivity=-torch.eye(3)), "compartment 2.*positive definite"),
    "D = 0": (lambda: tissue(diffusivity=0 * torch.eye(3)), "positive definite"),
    "D indefinite": (
        lambda: tissue(diffusivity=tensor([1.0, 3, 0], [3, 1, 0], [0, 0, 1])),
        "positive definite",
    ),
    "D not symmetric": (
        lambda: tissue(diffusivity=tensor([2.0, 1, 0], [0, 2, 0], [0, 0, 2])),
        "symmetric and positive definite",
    ),
    "D nan": (lambda: tissue(diffusivity=NAN * torch.eye(3)), "positive definite"),
    "D inf": (lambda: tissue(diffusivity=INF * torch.ones(3, 3)), "positive definite"),
    "T2 = 0": (lambda: tissue(t2=0.0), "t2 is .*give numbers >= 0.1"),
    "T2 < 0": (lambda: tissue(t2=-80.0), "t2 is .*give numbers >= 0.1"),
    "T2 nan": (lambda: tissue(t2=NAN), "t2 is .*give numbers >= 0.1"),
    "density = 0": (lambda: tissue(density=0.0), "density is .*give finite numbers > 0"),
    "density < 0": (lambda: tissue(density=-1.0), "density is .*give finite numbers > 0"),
    "density nan": (lambda: tissue(density=NAN), "density is .*give finite numbers > 0"),
    "density inf": (lambda: tissue(density=INF), "density is .*finite"),
}


@pytest.mark.parametrize("case", WRONG_TISSUES)
def test_wrong_tissue_is_refused(case):
    build, words = WRONG_TISSUES[case]
    with pytest.raises(ConfigError, match=words):
        build()


WRONG_TISSUE_FILES = {
    "kappa < 0": ("interfaces: [{between: [1, 2], permeability_um_per_ms: -0.1}]", "permeability"),
    "kappa nan": ("interfaces: [{between: [1, 2], permeability_um_per_ms: .nan}]", "permeability"),
    "wall < 0": ("walls: [{compartment: 1, permeability_um_per_ms: -1}]", "permeability"),
    "unknown label": ("walls: [{compartment: 7, permeability_um_per_ms: 0}]", "7 is not among"),
    "one label twice": (
        "interfaces: [{between: [1, 1], permeability_um_per_ms: 0.1}]",
        "two different",
    ),
    "D < 0": ("compartments: {1: {diffusivity_um2_per_ms: -2}}", "diffusivity_um2_per_ms"),
    "D not symmetric": (
        "compartments: {1: {diffusivity_um2_per_ms: [[2, 1, 0], [0, 2, 0], [0, 0, 2]]}}",
        "positive definite",
    ),
    "D nan": ("compartments: {1: {diffusivity_um2_per_ms: .nan}}", "diffusivity_um2_per_ms"),
    "D inf": ("compartments: {1: {diffusivity_um2_per_ms: .inf}}", "not finite"),
    "T2 = 0": ("compartments: {1: {t2_ms: 0}}", "t2_ms"),
    "T2 nan": ("compartments: {1: {t2_ms: .nan}}", "t2_ms"),
    "density < 0": ("compartments: {1: {density: -1}}", "density"),
    "density inf": ("compartments: {1: {density: .inf}}", "density"),
}


@pytest.mark.parametrize("case", WRONG_TISSUE_FILES)
def test_wrong_tissue_file_is_refused_by_name(case, tmp_path):
    text, words = WRONG_TISSUE_FILES[case]
    if "compartments" not in text:
        text = "compartments: {1: {}, 2: {}}\n" + text
    (tmp_path / "tissue.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        Tissue.from_settings(load_tissue(tmp_path / "tissue.yaml"))


def test_compartments_may_come_in_any_order(tmp_path):
    text = "compartments: {2: {t2_ms: 80}, 1: {density: 0.5}}"
    (tmp_path / "tissue.yaml").write_text(text)
    filling = Tissue.from_settings(load_tissue(tmp_path / "tissue.yaml"))
    assert filling.labels == (1, 2)
    assert filling.t2.tolist() == [INF, 80.0]
    assert filling.density.tolist() == [0.5, 1.0]


def inverted():
    mesh = ball(5.0, 1, order=1)
    points = mesh.points.clone()
    points[mesh.tets[0, 0]] += 8.0
    return mesh.with_points(points)


def not_finite(value):
    mesh = ball(5.0, 1, order=1)
    points = mesh.points.clone()
    points[3, 1] = value
    return mesh.with_points(points)


def ball_pair():
    """Two balls, apart."""
    one = ball(2.0, 1, order=1)
    other = one.points + torch.tensor([10.0, 0, 0]).double()
    tets = torch.cat([one.tets, one.tets + len(one.points)])
    return TetMesh(
        torch.cat([one.points, other]), tets, torch.arange(2).repeat_interleave(len(one.tets)) + 1
    )


WRONG_PAIRS = {
    "inverted tets": (inverted, lambda: tissue((1,)), "tets are inverted.*Re-mesh"),
    "nan point": (lambda: not_finite(NAN), lambda: tissue((1,)), "point 3 is not finite"),
    "inf point": (lambda: not_finite(INF), lambda: tissue((1,)), "point 3 is not finite"),
    "label the mesh lacks": (
        two_compartments,
        lambda: tissue((1, 2, 7)),
        r"not in the mesh: \[7\].*Make the two agree",
    ),
    "label the tissue lacks": (
        two_compartments,
        lambda: tissue((1,)),
        r"not in the tissue: \[2\].*Make the two agree",
    ),
    "interface that does not touch": (
        ball_pair,
        lambda: tissue(permeability={(1, 2): 0.1}),
        "share no face.*Remove the interface",
    ),
}


@pytest.mark.parametrize("case", WRONG_PAIRS)
def test_wrong_mesh_or_tissue_is_refused_before_any_solve(case, monkeypatch):
    def no_compute(*_):
        raise AssertionError("compute was spent on a bad input")

    monkeypatch.setattr("spinmesh.bloch_torrey.basis.shift_inverse", no_compute)
    mesh, filling, words = WRONG_PAIRS[case]
    with pytest.raises((MeshError, ConfigError), match=words):
        simulate(mesh(), filling(), pgse())


def test_a_users_mesh_is_refused_by_the_path_of_its_file(tmp_path):
    for name, mesh in (("inverted", inverted()), ("nan", not_finite(NAN))):
        path = tmp_path / f"{name}.vtu"
        write_mesh(mesh, path)
        with pytest.raises(MeshError) as error:
            read_mesh(path)
        assert str(path) in str(error.value)
    path = tmp_path / "labels.vtu"
    mesh = ball(5.0, 1, order=1)
    labels = np.where(np.arange(len(mesh.tets)) == 4, np.nan, 1.0)
    meshio.Mesh(
        mesh.points.numpy(), [("tetra", mesh.tets.numpy())], cell_data={"compartment": [labels]}
    ).write(path)
    with pytest.raises(MeshError, match=r"labels\.vtu: label `compartment` of tet 4 is nan"):
        read_mesh(path)


SCHEME = "VERSION: STEJSKALTANNER\n"
WAVE = "VERSION: GRADIENT_WAVEFORM\n"
CSV = "measurement,duration_ms,gx_mT_per_m,gy_mT_per_m,gz_mT_per_m\n"
WRONG_FILES = {
    "nan bval": ({"b": "0 nan", "v": "0 0\n0 0\n0 1"}, "b-value of measurement 1 is nan"),
    "inf bval": ({"b": "0 inf", "v": "0 0\n0 0\n0 1"}, "b-value of measurement 1 is inf"),
    "nan bvec": ({"b": "0 1000", "v": "0 0\n0 nan\n0 1"}, "not unit vectors .first: measurement 1"),
    "inf bvec": ({"b": "0 1000", "v": "0 0\n0 inf\n0 1"}, "not unit vectors .first: measurement 1"),
    "nan delta": ({"b": "1000 1000", "v": "0 0\n0 0\n1 1", "delta": "nan"}, "delta"),
    "inf Delta": ({"b": "1000 1000", "v": "0 0\n0 0\n1 1", "Delta": "inf"}, "Delta"),
    "nan |G|": ({"a.scheme": SCHEME + "0 0 1 nan 0.04 0.01 0.06"}, "of measurement 0 is nan"),
    "nan direction": ({"a.scheme": SCHEME + "0 nan 1 0.1 0.04 0.01 0.06"}, "not unit vectors"),
    "nan timing": ({"a.scheme": SCHEME + "0 0 1 0.1 0.04 nan 0.06"}, "delta"),
    "nan TE": ({"a.scheme": SCHEME + "0 0 1 0.1 0.04 0.01 nan"}, "echo time|TE"),
    "nan waveform": ({"a.scheme": WAVE + "2 0.01 0 0 nan 0 0 -0.04"}, "not all finite"),
    "inf waveform": ({"a.scheme": WAVE + "2 0.01 0 0 inf 0 0 -0.04"}, "not all finite"),
    "nan step": ({"a.scheme": WAVE + "2 nan 0 0 0.04 0 0 -0.04"}, "not all finite"),
    "nan in csv": ({"a.csv": CSV + "0,10,0,0,nan\n0,10,0,0,-40\n"}, "not all finite"),
    "does not refocus": (
        {"a.scheme": WAVE + "2 0.01 0 0 0.04 0 0 -0.03"},
        "measurement 0 does not refocus.*sign turned",
    ),
    "csv does not refocus": (
        {"a.csv": CSV + "0,10,0,0,40\n0,10,0,0,40\n"},
        "measurement 0 does not refocus.*sign turned",
    ),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_wrong_acquisition_is_refused_by_the_name_of_its_file(case, tmp_path):
    files, words = WRONG_FILES[case]
    paths = {}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        paths[name] = str(tmp_path / name)
    if "b" in paths:
        given = {"bvals": paths["b"], "bvecs": paths["v"]}
        times = {"delta_ms": paths.get("delta", 10.0), "Delta_ms": paths.get("Delta", 40.0)}
    else:
        given, times = {"scheme": next(iter(paths.values()))}, {}
    with pytest.raises(SequenceError, match=words) as error:
        read_acquisition(**given, **times)
    wrong = paths["v"] if "bvec" in case else next(iter(paths.values()))
    assert wrong in str(error.value)


def test_a_mesh_too_large_for_memory_is_refused_with_both_numbers(monkeypatch):
    monkeypatch.setattr(basis_module, "available_memory", lambda: 1_000_000)
    words = r"4,096 tets.*need about 0\.\d+ GB of memory; 0\.001 GB are free\. Coarsen"
    with pytest.raises(ReductionError, match=words):
        simulate(ball(5.0, 3, order=1), tissue((1,)), pgse())


def test_needed_memory_grows_with_the_mesh():
    """Linear in tets; eigenfunctions keep their factors."""
    small, large = ball(5.0, 1, order=1), ball(5.0, 3, order=1)
    assert needed_memory(large) > 30 * (needed_memory(small) - 2_000_000)
    assert needed_memory(large, "laplace") > needed_memory(large)


def test_available_memory_respects_the_containers_limit(monkeypatch, tmp_path):
    whole = machine.available_memory()
    assert 1e8 < whole < 1e14
    (tmp_path / "max").write_text("5000000\n")
    (tmp_path / "used").write_text("2000000\n")
    monkeypatch.setattr(machine, "LIMIT", str(tmp_path / "max"))
    monkeypatch.setattr(machine, "USED", str(tmp_path / "used"))
    assert machine.available_memory() == 3_000_000
    (tmp_path / "max").write_text("max\n")
    # Another moment, another process: free memory moves by some per cent.
    assert machine.available_memory() == pytest.approx(whole, rel=0.5)


def test_a_tolerance_below_what_the_mesh_resolves_is_warned_of_and_by_far_refused():
    mesh, filling = ball(5.0, 1, order=1), tissue((1,))
    acquisition = Acquisition.pgse([0.5, 4.0], Z * 2, 10.0, 40.0)
    reduction = reduce_mesh(mesh, filling, acquisition)
    own = reduction.discretisation_error(filling, acquisition)
    check_resolution(mesh, own, 2 * own)
    with pytest.warns(ResolutionWarning, match="Refine the mesh"):
        check_resolution(mesh, own, own / 10)
    with pytest.raises(ReductionError, match=r"64 tets alone.*Refine the mesh"):
        check_resolution(mesh, own, own / 1000)
    with pytest.raises(ConfigError, match="1e-9"):
        Basis(tolerance=1e-12)
    with pytest.raises(ConfigError, match="`tolerance` is nan"):
        Basis(tolerance=NAN)


def test_magnetisation_that_has_decayed_is_no_attenuation():
    """exp(-50/0.5) is 4e-44 of the start: 0/0 up to rounding."""
    with pytest.raises(ReductionError, match=r"at the echo of measurement 0.*Raise t2_ms"):
        simulate(ball(5.0, 1), Tissue.uniform(2.0, 0.5), pgse())
    kept = simulate(ball(5.0, 1), Tissue.uniform(2.0, 5.0), pgse())
    assert 0 < float(kept.attenuation[0, 0]) < 1


@pytest.mark.parametrize("wrong", ["simulate_reduced", "unweighted"])
def test_nan_never_leaves_the_simulator(wrong, monkeypatch):
    kind = torch.complex128 if wrong == "simulate_reduced" else torch.float64
    nan = torch.full((1,), NAN, dtype=kind)
    reduction = reduce_mesh(ball(5.0, 1), Tissue.uniform(2.0), pgse())
    monkeypatch.setattr(f"spinmesh.bloch_torrey.signal.{wrong}", lambda *_: nan)
    with pytest.raises(ReductionError, match="not finite"):
        signals_of(reduction, pgse())


@pytest.mark.parametrize("device", ["tpu", "gpu", "cuda"])
def test_unknown_or_absent_devices_are_refused_before_compute(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    words = "sees no GPU. Give cpu" if device == "cuda" else "Give auto, cpu or cuda"
    with pytest.raises(ConfigError, match=words):
        simulate(inverted(), Tissue.uniform(2.0), pgse(), device=device)
