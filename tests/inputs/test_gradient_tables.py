"""Issue 13, points 1 to 6 and 17: gradient tables as scanners and converters write them."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from spinmesh.bloch_torrey import Basis, reduce_mesh
from spinmesh.errors import SequenceError, SpinmeshError
from spinmesh.inversion import Target
from spinmesh.inversion.forward import attenuation
from spinmesh.io import load, save
from spinmesh.io.acquisitions import fsl_axes, read_acquisition
from spinmesh.io.targets import read_target
from spinmesh.mesh import ball
from spinmesh.reduction import ReducedModel
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

REALDATA = Path("/work/shared/realdata/schemes")
PULSES = {"delta_ms": 10.0, "Delta_ms": 30.0}
DIRECTIONS = np.array([[0, 0, 1], [0.6, 0, 0.8], [0, -1, 0], [0.48, 0.64, 0.6]])
B = [0, 1000, 2000, 3000, 1000]
VECTORS = np.concatenate([[[0, 0, 0]], DIRECTIONS])


def rows(table: np.ndarray, separator: str = " ", end: str = "\n") -> str:
    return "".join(separator.join(f"{x:.8g}" for x in row) + end for row in table)


def tables(folder: Path, bval: str | bytes, bvec: str | bytes) -> dict[str, str]:
    for name, text in (("bval", bval), ("bvec", bvec)):
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return {"bvals": str(folder / "bval"), "bvecs": str(folder / "bvec")}


# ---- 1: low b --------------------
@pytest.mark.parametrize("vector", ["0 0 0", "nan nan nan", "-nan -nan -nan", "1.#IND 0 0"])
@pytest.mark.parametrize("b", [1.28951, 15, 50])
def test_a_small_b_needs_no_direction(tmp_path, vector: str, b: float) -> None:
    files = tables(tmp_path, f"{b} 1000", "\n".join([*vector.split(), ""]))
    (tmp_path / "bvec").write_text(f"{vector}\n0 0 1\n")
    acquisition = read_acquisition(**files, **PULSES)
    assert acquisition.unweighted.tolist() == [True, False]
    assert acquisition.b_value.tolist() == pytest.approx([0.0, 1.0], rel=1e-12)
    assert float(acquisition.nominal_b[0]) == pytest.approx(b / 1000)


def test_above_the_threshold_a_direction_is_needed_and_the_threshold_is_an_option(tmp_path) -> None:
    files = tables(tmp_path, "64 1000", "0 0\n0 0\n0 1\n")
    with pytest.raises(SequenceError, match=r"bvec: 1 directions .*measurement 0.*b0-threshold"):
        read_acquisition(**files, **PULSES)
    read = read_acquisition(**files, **PULSES, b0_threshold_s_per_mm2=65.0)
    assert read.unweighted.tolist() == [True, False]


@pytest.fixture(scope="module")
def sphere() -> ReducedModel:
    mesh, tissue = ball(15.0, 1), Tissue.uniform(2.0)
    acquisition = Acquisition.pgse([0.0, 1.0, 3.0], [[0, 0, 1.0]] * 3, 10.0, 30.0)
    return reduce_mesh(mesh, tissue, acquisition, Basis(tolerance=1e-6)).reduced


@pytest.mark.parametrize("low", ["0 0 1", "0 0 0"], ids=["with direction", "without"])
@pytest.mark.parametrize("b", [10, 50])
def test_signals_relative_to_a_small_b_are_compared_without_bias(
    tmp_path, sphere: ReducedModel, low: str, b: int
) -> None:
    """A sphere has the same signal in all directions; 1 to 3 % at 10 s/mm^2 before."""
    files = tables(tmp_path, f"{b} {b} 1000 3000", "")
    (tmp_path / "bvec").write_text(f"{low}\n{low}\n0 0 1\n0 0.6 0.8\n")
    acquisition = read_acquisition(**files, **PULSES)
    # What the scanner sees: b = 10 s/mm^2 along z in every unweighted image.
    (tmp_path / "bvec").write_text("0 0 1\n0 0 1\n0 0 1\n0 0.6 0.8\n")
    seen = read_acquisition(**files, **PULSES, b0_threshold_s_per_mm2=0.0)
    signal = 700 * attenuation(sphere, seen)
    (tmp_path / "s.csv").write_text("signal\n" + "\n".join(map(repr, signal.tolist())))
    target = read_target(acquisition, 30.0, csv=tmp_path / "s.csv")
    predicted = attenuation(sphere, target.acquisition)
    # Octahedral symmetry of the mesh leaves 1e-4 between directions.
    torch.testing.assert_close(predicted, target.attenuation, rtol=0, atol=1e-4 * b / 10)
    bias = float((attenuation(sphere, seen) / target.attenuation - 1)[2:].abs().max())
    assert bias > 3e-3 * b / 10, "without the division it would be this far off"
    save(target, tmp_path / "t.zarr")
    again = load(Target, tmp_path / "t.zarr").acquisition
    assert torch.equal(attenuation(sphere, again), predicted)
    some = target.acquisition.select(torch.tensor([3]))
    torch.testing.assert_close(attenuation(sphere, some), predicted[3:], rtol=1e-12, atol=0)


def test_gradients_of_the_division_are_exact(tmp_path, sphere: ReducedModel) -> None:
    files = tables(tmp_path, "40 1000", "0 0\n0 0.6\n1 0.8\n")
    (tmp_path / "s.csv").write_text("signal\n1\n0.5\n")
    target = read_target(read_acquisition(**files, **PULSES), 30.0, csv=tmp_path / "s.csv")

    def predicted(scale: torch.Tensor) -> torch.Tensor:
        small = slice(0, 6)
        return attenuation(
            ReducedModel(
                scale * sphere.laplacian[small, small],
                sphere.moments[:, small, small],
                sphere.mean[:, small],
            ),
            target.acquisition,
        )

    assert torch.autograd.gradcheck(predicted, torch.tensor(1.1).double().requires_grad_())


# ---- 2: pulses only where there is a gradient --------------------
def test_a_row_without_gradient_needs_no_pulses(tmp_path) -> None:
    (tmp_path / "a.scheme").write_text(
        "VERSION: 1\n0 0 0 0 0 0 0.049\n0 0 0 0 0 0 0.087\n0 0 1 0.061 0.022 0.003 0.049\n"
        "0 0 1 0.06 0.06 0.003 0.087\n"
    )
    acquisition = read_acquisition(scheme=str(tmp_path / "a.scheme"))
    assert acquisition.durations("echo_time").tolist() == pytest.approx([49, 87, 49, 87])
    assert acquisition.amplitude.tolist() == pytest.approx([0, 0, 61, 60])
    (tmp_path / "a.scheme").write_text("VERSION: 1\n0 0 0 0 0 0 0.049\n0 0 1 0.06 0.02 0 0.049\n")
    with pytest.raises(SequenceError, match=r"a\.scheme.*measurement 1: PGSE: delta is 0"):
        read_acquisition(scheme=str(tmp_path / "a.scheme"))


def test_seven_columns_without_a_header_are_stejskal_tanners(tmp_path) -> None:
    """ISBI's scheme as it is distributed has a comment in place of the header."""
    row = "0 0 1 0.061 0.022 0.003 0.049\n"
    (tmp_path / "a.scheme").write_text(f"%--dir-x--\n0 0 0 0 0 0 0.049\n{row}")
    acquisition = read_acquisition(scheme=str(tmp_path / "a.scheme"))
    assert acquisition.amplitude.tolist() == pytest.approx([0, 61])
    # (gamma G delta)^2 (Delta - delta/3) in SI units, s/m^2 to ms/um^2.
    exact = (2.6752218744e8 * 0.061 * 0.003) ** 2 * 0.021 * 1e-9
    assert float(acquisition.b_value[1]) == pytest.approx(exact, rel=1e-12)


@pytest.mark.skipif(not REALDATA.is_dir(), reason="no shared/realdata here")
@pytest.mark.parametrize(
    ("name", "count"), [("winther_7shells_21dirs", 148), ("winther_5shells_3dirs", 13)]
)
def test_published_schemes_are_read(name: str, count: int) -> None:
    acquisition = read_acquisition(scheme=str(REALDATA / f"{name}.scheme"))
    assert len(acquisition) == count
    assert acquisition.durations("echo_time").unique().tolist() == [36.0]


# ---- 3: units --------------------
@pytest.mark.parametrize(
    ("b", "pulses", "words"),
    [
        ("0 1000", {"delta_ms": 0.0106, "Delta_ms": 0.0431}, "Are the times in s"),
        ("0 1000", {"delta_ms": 10600.0, "Delta_ms": 43100.0}, "Are the times in us"),
        ("0 3", PULSES, "Is b in ms/um"),
        ("0 3e9", PULSES, "Is b in s/m"),
        ("0 900000", {"delta_ms": 0.5, "Delta_ms": 1.0}, "T/m is needed"),
    ],
)
def test_impossible_units_are_questioned(tmp_path, b: str, pulses: dict, words: str) -> None:
    with pytest.raises(SequenceError, match=words):
        read_acquisition(**tables(tmp_path, b, "0 0\n0 0\n0 1\n"), **pulses)


@pytest.mark.parametrize(("row", "words"), [("80 0.04 0.01", "T/m"), ("0.08 40 10", "times in us")])
def test_a_scheme_in_mt_per_m_or_ms_is_questioned(tmp_path, row: str, words: str) -> None:
    (tmp_path / "a.scheme").write_text(f"VERSION: 1\n0 0 1 {row} 0\n")
    with pytest.raises(SequenceError, match=words):
        read_acquisition(scheme=str(tmp_path / "a.scheme"))


# ---- 4: files --------------------
FORMS = {
    "plain": lambda text: text.encode(),
    "BOM": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16-LE without BOM": lambda text: text.encode("utf-16-le"),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "commas": lambda text: text.replace(" ", ",").encode(),
    "commas and blanks": lambda text: text.replace(" ", ", ").encode(),
    "tabs": lambda text: text.replace(" ", "\t").encode(),
    "blanks at the ends": lambda text: text.replace("\n", "  \n").encode() + b"\n\n",
    "scientific": lambda text: text.replace("1000", "1.0E+03").encode(),
    "Latin-1 comment": lambda text: "# b in s/mm² \n".encode("latin-1") + text.encode(),
    "long minus": lambda text: text.replace("-", "\u2212").encode(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_every_form_of_a_text_file_is_read(tmp_path, form: str, layout: str) -> None:
    columns = layout == "columns"
    b = rows(np.array([B]).T if columns else np.array([B]))
    vectors = rows(VECTORS if columns else VECTORS.T)
    acquisition = read_acquisition(**tables(tmp_path, *map(FORMS[form], (b, vectors))), **PULSES)
    # Files carry eight digits.
    np.testing.assert_allclose(acquisition.b_value * 1000, B, rtol=1e-12)
    np.testing.assert_allclose(acquisition.direction, VECTORS, atol=1e-8)


@pytest.mark.parametrize("order", ["C", "F"])
def test_directions_in_one_column_are_told_by_their_length(tmp_path, order) -> None:
    files = tables(tmp_path, rows(np.array([B])), rows(VECTORS.ravel(order)[:, None]))
    np.testing.assert_allclose(read_acquisition(**files, **PULSES).direction, VECTORS, atol=1e-8)


def test_three_measurements_in_three_columns_are_told_by_their_length(tmp_path) -> None:
    files = tables(tmp_path, "0 1000 1000", rows(VECTORS[:3]))
    np.testing.assert_allclose(
        read_acquisition(**files, **PULSES).direction, VECTORS[:3], atol=1e-8
    )


@pytest.mark.parametrize("separator", [" ", ",", ", ", "\t"])
def test_a_table_of_mrtrix_is_a_scheme_with_timings(tmp_path, separator: str) -> None:
    table = np.column_stack([VECTORS, B])
    text = "# command_history: dwiextract\n" + rows(table, separator)
    (tmp_path / "grad.b").write_text(text)
    acquisition = read_acquisition(scheme=str(tmp_path / "grad.b"), **PULSES)
    np.testing.assert_allclose(acquisition.b_value * 1000, B, rtol=1e-12)
    np.testing.assert_allclose(acquisition.direction, VECTORS, atol=1e-8)
    for text, words in (("0 0 0 0\n0 0 1\n", "not a table"), ("0 0 1\n", "3 columns; an MRtrix")):
        (tmp_path / "grad.b").write_text(text)
        with pytest.raises(SequenceError, match=f"grad.b: {words}"):
            read_acquisition(scheme=str(tmp_path / "grad.b"), **PULSES)


@pytest.mark.parametrize(
    ("b", "vectors", "words"),
    [
        ("0 1000", "0 0\n0 0\n0 0.577\n", r"bvec: .*write b \|v\|\^2 \(here 332.9 s/mm\^2\)"),
        ("0 1000", "0 0\n0 0\n0 nan\n", r"bvec: .*measurement 1.*none"),
        ("0 1000", "0 0 0\n0 0 0\n0 1 1\n", r"bvec: 3 rows of 3 numbers for the 2 b-values"),
        ("0 -1000", "0 0\n0 0\n0 1\n", r"bval: b-value of measurement 1 is -1000 s/mm\^2"),
        ("0 nan", "0 0\n0 0\n0 1\n", r"bval: b-value of measurement 1 is nan"),
        ("0 0\n0 0\n0 1\n", "0 1000", r"bval: 3 rows of 2 numbers; one row or one column"),
        ("0,5 1000,0", "0 0\n0 0\n0 1\n", r"bval: .*use decimal points"),
        ("0 1_000", "0 0\n0 0\n0 1\n", r"bval: not a table of numbers"),
    ],
)
def test_the_wrong_file_is_named(tmp_path, b: str, vectors: str, words: str) -> None:
    with pytest.raises(SpinmeshError, match=words):
        read_acquisition(**tables(tmp_path, b, vectors), **PULSES)


def test_a_configuration_named_scheme_is_refused_by_name(tmp_path) -> None:
    (tmp_path / "a.scheme").write_text("N 800\nT 1000\nduration 0.02\n")
    with pytest.raises(SequenceError, match=r"a\.scheme: first line is 'N 800'.*MC/DC"):
        read_acquisition(scheme=str(tmp_path / "a.scheme"))


# ---- 5: frames --------------------
@pytest.mark.parametrize("flip", [-1, 1])
def test_fsl_directions_become_world_axes(tmp_path, flip: int) -> None:
    """FSL: along the voxel axes, x counted from the other end where the determinant is positive."""
    angle = np.deg2rad(20)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([flip * 2.0, 2.0, 3.0])
    nib.Nifti1Image(np.ones((2, 2, 2, 2)), affine).to_filename(tmp_path / "dwi.nii.gz")
    world = np.array([np.sin(np.deg2rad(40)), 0, np.cos(np.deg2rad(40))])  # (0.643, 0, 0.766)
    # By hand: the voxel axes' components, the first mirrored.
    own = np.linalg.inv(affine[:3, :3] / [2.0, 2.0, 3.0]) @ world
    own[0] *= -1 if flip > 0 else 1
    files = tables(tmp_path, "0 1000", rows(np.stack([np.zeros(3), own]).T))
    read = read_acquisition(**files, **PULSES, image=str(tmp_path / "dwi.nii.gz"))
    np.testing.assert_allclose(read.direction[1], world, atol=1e-7)
    assert np.linalg.det(fsl_axes(affine)) == pytest.approx(-1)


# ---- 6: echo times --------------------
def test_unweighted_signals_are_those_of_the_same_echo_time(tmp_path) -> None:
    """Two echo times, T2 = 60 ms, attenuation 0.39 in both; the unweighted rows have no pulses."""
    (tmp_path / "a.scheme").write_text(
        "VERSION: 1\n0 0 0 0 0 0 0.05\n0 0 0 0 0 0 0.09\n0 0 1 0.1 0.02 0.01 0.05\n"
        "0 0 1 0.1 0.02 0.01 0.09\n"
    )
    decay = np.exp(-np.array([50, 90, 50, 90]) / 60)
    signal = 1000 * decay * [1, 1, 0.39, 0.39]
    (tmp_path / "s.csv").write_text("signal\n" + "\n".join(map(str, signal)))
    acquisition = read_acquisition(scheme=str(tmp_path / "a.scheme"))
    target = read_target(acquisition, 30.0, csv=tmp_path / "s.csv")
    assert target.attenuation.tolist() == pytest.approx([1, 1, 0.39, 0.39], rel=1e-12)
    (tmp_path / "s.csv").write_text("signal\n" + "\n".join(map(str, signal[[0, 2, 3]])))
    with pytest.raises(SequenceError, match=r"measurement 2 has echo time 90 ms.*only 50 ms"):
        read_target(acquisition.select([0, 2, 3]), 30.0, csv=tmp_path / "s.csv")


# ---- 17: BIDS sidecars --------------------
@pytest.mark.parametrize(
    ("delta", "Delta"),
    [
        ("DiffusionGradientDuration", "DiffusionGradientSeparation"),
        ("GradientDuration", "GradientSeparation"),
        ("SmallDelta", "BigDelta"),
        ("smallDelta", "LargeDelta"),
        ("small_delta", "big-delta"),
    ],
)
def test_a_sidecar_gives_delta_and_separation_in_seconds(tmp_path, delta: str, Delta: str) -> None:
    (tmp_path / "dwi.json").write_text(
        json.dumps({delta: 0.0106, Delta: 0.0431, "EchoTime": 0.0895})
    )
    files = tables(tmp_path, rows(np.array([B])), rows(VECTORS.T))
    acquisition = read_acquisition(**files, sidecar=str(tmp_path / "dwi.json"))
    times = [float(acquisition.durations(name)[1]) for name in ("delta", "Delta", "echo_time")]
    assert times == pytest.approx([10.6, 43.1, 89.5])
    # A series whose unweighted volume has no pulses.
    each = {delta: [0, *[0.0106] * 4], Delta: [None, *[0.0431] * 4]}
    (tmp_path / "dwi.json").write_text(json.dumps(each))
    again = read_acquisition(**files, sidecar=str(tmp_path / "dwi.json"))
    np.testing.assert_allclose(again.gradient, acquisition.gradient, rtol=1e-12)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"SmallDelta": 10.6, "LargeDelta": 43.1}', "`SmallDelta` is 10.6; give seconds.*in ms"),
        ('{"SmallDelta": 0.0106}', "Delta missing"),
        ('{"SmallDelta": 0.01, "GradientDuration": 0.02}', "differ"),
        ("[1]", "no JSON object"),
        ("{", "cannot be read as BIDS sidecar"),
    ],
)
def test_a_wrong_sidecar_is_refused(tmp_path, content: str, words: str) -> None:
    (tmp_path / "dwi.json").write_text(content)
    files = tables(tmp_path, rows(np.array([B])), rows(VECTORS.T))
    with pytest.raises(SpinmeshError, match=words):
        read_acquisition(**files, sidecar=str(tmp_path / "dwi.json"))
