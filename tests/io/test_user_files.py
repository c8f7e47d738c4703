"""The user's meshes, acquisitions and signals: what is read, what is refused, in which words."""

import meshio
import nibabel as nib
import numpy as np
import pytest
import torch

from spinmesh.errors import ConfigError, MeshError, SequenceError, SpinmeshError, StoreError
from spinmesh.io.acquisitions import read_acquisition
from spinmesh.io.meshes import LABEL_KEYS, read_mesh, write_mesh
from spinmesh.io.schemes import read_camino_scheme
from spinmesh.io.targets import read_target
from spinmesh.mesh import SweptDisk, ball, nested_cylinder
from spinmesh.sequence import Acquisition


def volume(mesh):
    corner = mesh.points[mesh.tets[:, :4]]
    return float(torch.linalg.det(corner[:, 1:] - corner[:, :1]).sum() / 6)


@pytest.mark.parametrize(
    ("suffix", "order"),
    # Medit's .mesh has no 10-node tets in meshio.
    [(".msh", 1), (".msh", 2), (".vtu", 1), (".vtu", 2), (".mesh", 1), (".xdmf", 2), (".med", 2)],
)
def test_meshes_written_by_others_come_back(tmp_path, suffix, order):
    mesh = ball(5.0, 1, order)
    path = tmp_path / f"ball{suffix}"
    write_mesh(mesh, path)
    back = read_mesh(path)
    assert back.order == order
    assert volume(back) == pytest.approx(volume(mesh), rel=1e-12)


def test_a_mesh_is_written_to_one_file_or_not_at_all(tmp_path):
    for suffix in (".node", ".ele"):
        with pytest.raises(ConfigError, match=r"two files.*Give \.vtu"):
            write_mesh(ball(5.0, 1, 1), tmp_path / f"ball{suffix}")
    write_mesh(ball(5.0, 1, 1), tmp_path / "ball.xdmf")
    assert [path.name for path in tmp_path.iterdir()] == ["ball.xdmf"]


@pytest.mark.parametrize("key", LABEL_KEYS)
def test_compartment_labels_are_found_under_each_known_key(tmp_path, key):
    mesh = nested_cylinder(SweptDisk(rings=2, layers=2, radius_um=4.0, length_um=8.0, order=1), 1)
    path = tmp_path / "two.vtu"
    labels = mesh.compartment.numpy() + 10
    meshio.Mesh(
        mesh.points.numpy(), [("tetra", mesh.tets.numpy())], cell_data={key: [labels]}
    ).write(path)
    assert read_mesh(path).labels == (11, 12)


def test_surface_cells_and_unused_points_are_ignored(tmp_path):
    mesh = ball(5.0, 1, order=1)
    points = np.concatenate([[[99.0, 0, 0]], mesh.points.numpy()])
    cells = [
        ("triangle", np.array([[0, 1, 2]])),
        ("line", mesh.tets.numpy()[:4, :2] + 1),
        ("tetra", mesh.tets.numpy() + 1),
    ]
    meshio.Mesh(points, cells).write(tmp_path / "m.vtu")
    assert torch.equal(read_mesh(tmp_path / "m.vtu").points, mesh.points)


def test_unknown_cell_types_are_refused(tmp_path):
    cube = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float)
    hexahedron = np.array([[0, 1, 3, 2, 4, 5, 7, 6]])
    meshio.Mesh(cube, [("hexahedron", hexahedron)]).write(tmp_path / "m.vtu")
    with pytest.raises(MeshError, match=r"volume cells are \['hexahedron'\].*Re-mesh"):
        read_mesh(tmp_path / "m.vtu")
    meshio.Mesh(cube, [("triangle", np.array([[0, 1, 2]]))]).write(tmp_path / "s.vtu")
    with pytest.raises(MeshError, match="absent"):
        read_mesh(tmp_path / "s.vtu")


def test_a_mesh_in_metres_warns_and_scale_to_um_mends_it(tmp_path):
    mesh = ball(5.0, 1, order=1)
    write_mesh(mesh.with_points(mesh.points * 1e-6), tmp_path / "metres.vtu")
    with pytest.raises(MeshError, match="bounding box"):
        read_mesh(tmp_path / "metres.vtu")
    assert volume(read_mesh(tmp_path / "metres.vtu", 1e6)) == pytest.approx(volume(mesh))


def test_missing_and_broken_mesh_files_are_refused(tmp_path):
    with pytest.raises(StoreError, match="no such mesh file"):
        read_mesh(tmp_path / "none.msh")
    (tmp_path / "broken.vtu").write_text("<nonsense")
    with pytest.raises(StoreError, match="cannot be read as mesh file"):
        read_mesh(tmp_path / "broken.vtu")


def write_fsl(folder, b, directions):
    (folder / "b").write_text(" ".join(map(str, b)))
    (folder / "v").write_text(
        "\n".join(" ".join(map(str, row)) for row in np.transpose(directions))
    )
    return {"bvals": str(folder / "b"), "bvecs": str(folder / "v")}


Z = [0.0, 0.0, 1.0]


def test_fsl_files_give_b_and_directions_in_order(tmp_path):
    files = write_fsl(tmp_path, [0, 1000, 3000], [[0, 0, 0], [1, 0, 0], [0, 0.6, 0.8]])
    acquisition = read_acquisition(**files, delta_ms=8.0, Delta_ms=19.0)
    assert torch.allclose(acquisition.b_value, torch.tensor([0.0, 1.0, 3.0]).double(), rtol=1e-14)
    assert torch.allclose(acquisition.direction[2], torch.tensor([0.0, 0.6, 0.8]).double())


def test_timings_may_come_one_per_measurement_and_bvecs_transposed(tmp_path):
    files = write_fsl(tmp_path, [1000, 2000, 1000, 0], [Z, Z, Z, Z])
    (tmp_path / "v").write_text("\n".join("0 0 1" for _ in range(4)))
    (tmp_path / "D").write_text("19\n49\n49\n19\n")
    acquisition = read_acquisition(**files, delta_ms=8.0, Delta_ms=str(tmp_path / "D"))
    assert acquisition.durations("Delta").tolist() == [19, 49, 49, 19]


@pytest.mark.parametrize(
    ("b", "directions", "delta", "Delta", "message"),
    [
        ([0, 1000, 2000], [Z, Z], 8.0, 19.0, r"3 rows of 2 numbers for the 3 b-values"),
        ([0, 1000], [Z, [0, 0, 0.5]], 8.0, 19.0, r"measurement 1, length 0\.5"),
        ([0, -1000], [Z, Z], 8.0, 19.0, r"b-value of measurement 1 is -1000 s/mm\^2"),
        ([0, 1000], [Z, Z], 19.0, 8.0, "delta_ms 19 exceeds Delta_ms 8; swapped"),
        ([0, 1000], [Z, Z], 0.0, 8.0, "`delta_ms` is 0.0: give a value greater than 0"),
    ],
)
def test_inconsistent_fsl_acquisitions_are_refused(tmp_path, b, directions, delta, Delta, message):
    files = write_fsl(tmp_path, b, directions)
    with pytest.raises(SpinmeshError, match=message):
        read_acquisition(**files, delta_ms=delta, Delta_ms=Delta)


def test_missing_ragged_and_empty_files_are_refused(tmp_path):
    files = write_fsl(tmp_path, [0], [Z])
    with pytest.raises(StoreError, match="no such file"):
        read_acquisition(bvals="nowhere", bvecs=files["bvecs"], delta_ms=8.0, Delta_ms=19.0)
    (tmp_path / "v").write_text("1 2\n3\n4 5\n")
    with pytest.raises(SequenceError, match="same count of numbers"):
        read_acquisition(**files, delta_ms=8.0, Delta_ms=19.0)
    (tmp_path / "b").write_text("\n")
    with pytest.raises(SequenceError, match="holds no numbers"):
        read_acquisition(**files, delta_ms=8.0, Delta_ms=19.0)


SCHEME = """# made by hand
VERSION: STEJSKALTANNER
0 0 0 0 0.040 0.010 0.060
1 0 0 0.1 0.040 0.010 0.060
0 0.6 0.8 0.2 0.020 0.005 0.060
"""


def test_camino_scheme_is_read_in_si_units(tmp_path):
    """b = (gamma G delta)^2 (Delta - delta/3) in SI, then s/m^2 to ms/um^2 by 1e-9."""
    (tmp_path / "a.scheme").write_text(SCHEME)
    acquisition = read_camino_scheme(tmp_path / "a.scheme")
    exact = (2.6752218744e8 * 0.1 * 0.010) ** 2 * (0.040 - 0.010 / 3) * 1e-9
    assert float(acquisition.b_value[1]) == pytest.approx(exact, rel=1e-12)
    assert acquisition.durations("delta").tolist() == [10, 10, 5]
    assert float(acquisition.b_value[0]) == 0


def test_other_schemes_and_wrong_columns_are_refused(tmp_path):
    (tmp_path / "a.scheme").write_text(SCHEME.replace("STEJSKALTANNER", "BVECTOR"))
    with pytest.raises(SequenceError, match="not `VERSION: STEJSKALTANNER`"):
        read_camino_scheme(tmp_path / "a.scheme")
    (tmp_path / "a.scheme").write_text("VERSION: STEJSKALTANNER\n0 0 1 0.1\n")
    with pytest.raises(SequenceError, match="4 columns"):
        read_camino_scheme(tmp_path / "a.scheme")


def acquisition():
    return Acquisition.pgse([0.0, 1.0, 0.0, 2.0], [Z, Z, Z, Z], 8.0, [19.0, 19.0, 49.0, 49.0])


def test_a_voxel_is_divided_by_the_unweighted_signal_of_its_own_timing(tmp_path):
    data = np.zeros((2, 2, 2, 4))
    data[1, 0, 1] = [200.0, 100.0, 100.0, 25.0]
    nib.Nifti1Image(data, np.eye(4)).to_filename(tmp_path / "dwi.nii.gz")
    target = read_target(acquisition(), 30.0, nifti=tmp_path / "dwi.nii.gz", voxel=(1, 0, 1))
    assert target.attenuation.tolist() == [1.0, 0.5, 1.0, 0.25]
    assert target.sigma == pytest.approx(1 / 30)
    with pytest.raises(ConfigError, match=r"voxel \(5, 0, 0\) is not inside \(2, 2, 2\)"):
        read_target(acquisition(), 30.0, nifti=tmp_path / "dwi.nii.gz", voxel=(5, 0, 0))
    with pytest.raises(SequenceError, match="S0 > 0"):
        read_target(acquisition(), 30.0, nifti=tmp_path / "dwi.nii.gz", voxel=(0, 0, 0))


def test_csv_signals_and_attenuations_are_both_understood(tmp_path):
    (tmp_path / "s.csv").write_text("signal\n200\n100\n100\n25\n")
    (tmp_path / "a.csv").write_text("b,attenuation\n0,1\n1,0.5\n0,1\n2,0.25\n")
    targets = [read_target(acquisition(), 30.0, csv=tmp_path / f) for f in ("s.csv", "a.csv")]
    assert torch.equal(targets[0].attenuation, targets[1].attenuation)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("signal\n200\n100\n", "2 measurements, but its acquisition has 4"),
        ("value\n1\n1\n1\n1\n", "one must be `attenuation` or `signal`"),
        ("signal\n200\nnan\n100\n25\n", "measurement 1 is not finite"),
    ],
)
def test_wrong_signal_tables_are_refused(tmp_path, text, message):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(SequenceError, match=message):
        read_target(acquisition(), 30.0, csv=tmp_path / "s.csv")


def test_a_signal_without_unweighted_measurement_is_refused(tmp_path):
    weighted = Acquisition.pgse([1.0, 2.0], [Z, Z], 8.0, 19.0)
    (tmp_path / "s.csv").write_text("signal\n2\n1\n")
    with pytest.raises(SequenceError, match="no unweighted measurement"):
        read_target(weighted, 30.0, csv=tmp_path / "s.csv")
