"""Files of other programs and labs, where they are at hand; none is in the repository."""

from pathlib import Path

import pytest

from spinmesh.errors import MeshError
from spinmesh.io.volumes import read_labels
from spinmesh.meshing.check import check_surface
from spinmesh.meshing.faults import faults_of
from spinmesh.meshing.files import read_surface
from spinmesh.meshing.fill import fill
from spinmesh.meshing.labels import mesh_labels
from spinmesh.meshing.tets import boundary, quality, volumes
from spinmesh.skeletons.files import read_skeletons
from spinmesh.skeletons.grown import grown

FOLDERS = [folder / "shared/realdata" for folder in Path(__file__).parents[3:5]]
DATA = next((folder for folder in FOLDERS if folder.is_dir()), FOLDERS[0])
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no files of other labs in {DATA}")


def test_packed_spheres_of_mcdc() -> None:
    surface, mended = read_surface(DATA / "mc_meshes/mcdc_hexagonal_packed_spheres.ply")
    assert len(surface.names) == 13 and not mended and check_surface(surface).usable
    assert surface.volumes.sum() == pytest.approx(52.5556, rel=1e-5)


@pytest.mark.slow
def test_neuron_of_spindoctor_is_usable() -> None:
    surface, mended = read_surface(DATA / "spindoctor/1-2-2.CNG.ply")
    assert not mended and not faults_of(surface)
    assert surface.volumes == pytest.approx([13574], rel=1e-4)


@pytest.mark.slow
def test_neuron_of_disimpy_is_in_metres_and_crosses_itself() -> None:
    """Welded it is one closed part; four of its triangles cross."""
    file = DATA / "mc_meshes/disimpy_neuron-model.stl"
    with pytest.raises(MeshError, match="Is it in m"):
        read_surface(file)
    surface, mended = read_surface(file, 1e6)
    assert len(surface.names) == 1 and {fault.count for fault in mended} == {11, 6}
    assert [fault.what for fault in faults_of(surface)] == ["crossing triangles"]


def test_a_microglia_of_imaris_is_the_same_in_both_formats() -> None:
    vrml, _ = read_surface(DATA / "microglia/781_1_3.wrl")
    ply, _ = read_surface(DATA / "microglia/781_1_3.ply")
    assert vrml.volumes == pytest.approx(ply.volumes, rel=1e-4)
    assert ply.volumes == pytest.approx([118.8], rel=1e-3)


def test_conflict_markers_and_roots_of_skeletons_are_said() -> None:
    (neuron,) = read_skeletons(DATA / "spindoctor/1-2-2.CNG.swc")
    assert "lines left away (first: line 1)" in " ".join(neuron.notes)
    (cell,) = read_skeletons(DATA / "microglia/ctrl_210219_16_803-2_1.swc")
    assert "7 roots" in " ".join(cell.notes)


@pytest.mark.parametrize("name", ["corpus_callosum_01", "crossing_fibre_03"])
def test_axons_of_nano_holotomography_are_some_um_thick(name: str) -> None:
    (axon,) = read_skeletons(DATA / f"xnh_axons/{name}.txt")
    assert 0.3 < axon.cones.median_radius < 3


def test_a_configuration_is_no_list() -> None:
    with pytest.raises(MeshError, match="neither strands"):
        read_skeletons(DATA / "cactus/cactus_single.txt")


@pytest.mark.slow
def test_a_microglia_with_slivers_is_filled_and_that_is_said() -> None:
    """Edges of 1e-4 um beside others of 0.3: mmgs evens them within a percent of the volume."""
    surface, _ = read_surface(DATA / "microglia/781_1_3.ply")
    made = fill(surface)
    points, tets = made.mesh.points.numpy(), made.mesh.tets.numpy()
    assert quality(points, tets).min() >= 0.1
    assert volumes(points, tets).sum() == pytest.approx(surface.volumes[0], rel=0.01)
    assert any("sliver triangles" in note for note in made.notes)


@pytest.mark.slow
def test_a_neuron_of_spindoctor_with_a_sliver_that_has_to_stay_is_filled() -> None:
    """Its shortest edge is a side of a neck of three edges: collapsed, two sheets would touch."""
    surface, _ = read_surface(DATA / "spindoctor/1-2-2.CNG.ply")
    made = fill(surface)
    volume = volumes(made.mesh.points.numpy(), made.mesh.tets.numpy()).sum()
    assert volume == pytest.approx(13_574, rel=1e-4)  # as SpinDoctor's list has it
    assert any("2 sliver triangles turned or collapsed, 1 stay" in note for note in made.notes)


@pytest.mark.slow
def test_an_axon_of_caterpillar_is_the_union_of_its_spheres() -> None:
    """39.5 um^3 and 120.7 um^2 by manifold3d."""
    (axon,) = read_skeletons(DATA / "caterpillar/single_axon_run3.csv")
    surface, made = grown(axon)
    points, tets = made.mesh.points.numpy(), made.mesh.tets.numpy()
    assert volumes(points, tets).sum() == pytest.approx(39.5, rel=0.01)
    assert surface.areas.sum() == pytest.approx(120.7, rel=0.02)
    assert quality(points, tets).min() >= 0.1 and len(boundary(tets)) == len(surface.triangles)


@pytest.mark.slow
def test_an_axon_of_electron_microscopy_has_its_mitochondria_as_a_compartment() -> None:
    """The 5 um of it that hold them; its voxels are cubes of 0.1 um."""
    labels, affine = read_labels(DATA / "em_axons/nyu_genu_axon_001_labels.nii.gz")
    labels = labels[:, :, :50]
    made = mesh_labels(labels, affine, "axon")
    points, tets = made.mesh.points.numpy(), made.mesh.tets.numpy()
    assert made.mesh.labels == (1, 2) and quality(points, tets).min() >= 0.1
    assert volumes(points, tets).sum() == pytest.approx(1e-3 * (labels > 0).sum(), rel=0.03)
