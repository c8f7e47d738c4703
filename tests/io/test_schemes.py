"""Acquisition files and stores: what is written comes back, what is wrong is refused."""

import sys
import warnings
from functools import partial

import numpy as np
import pytest
import torch
import xarray as xr
from acquisition_files import write_camino_scheme, write_fsl

from spinmesh.bloch_torrey import Signals
from spinmesh.errors import ConfigError, SequenceError, StoreError
from spinmesh.io import load, save
from spinmesh.io.acquisitions import read_acquisition
from spinmesh.io.schemes import read_camino_scheme, read_waveforms, write_waveforms
from spinmesh.io.tables import write_signal_table
from spinmesh.sequence import (
    PGSE,
    Acquisition,
    CosineOGSE,
    FreeWaveform,
    MultiplePGSE,
    SineOGSE,
    TrapezoidalOGSE,
)
from spinmesh.units import GAMMA

DIRECTIONS = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0.6, 0, 0.8]]).double()
WAVEFORM = FreeWaveform(
    np.array([2.0, 3.0, 1.5, 3.0, 2.0, 4.5]),
    np.array([[1, 0, 0], [0, 1, 0.2], [0, 0, 0], [0, -1, 0], [-1, 0, -0.3], [0, 0, 0.0]]),
)
EVERY = (
    PGSE(8.0, 19.0, 0.5, TE=40.0),
    CosineOGSE(20.0, 25.0, 2),
    SineOGSE(20.0, 25.0, 2),
    TrapezoidalOGSE(20.0, 25.0, 2, 0.5),
    MultiplePGSE.double(5.0, 12.0, 3.0, (0.6, 0.0, 0.8), TE=50.0),
    WAVEFORM,
)


def of(sequence):
    return Acquisition.of(sequence, [0.0, 1.0, 2.0], DIRECTIONS)


def pgse(**timing):
    return Acquisition.pgse([0.0, 1.0, 2.0], DIRECTIONS, 8.0, [19.0, 19.0, 49.0], **timing)


def test_every_kind_of_sequence_comes_back_from_a_store(tmp_path):
    acquisition = Acquisition.joined([of(sequence) for sequence in EVERY])
    turned = acquisition.rotated(torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]).double())
    for number, written in enumerate((acquisition, turned)):
        ones = torch.ones(1, len(written), dtype=torch.float64)
        save(Signals(written, ones.to(torch.complex128), ones), tmp_path / f"{number}.zarr")
        back = load(Signals, tmp_path / f"{number}.zarr").acquisition
        assert back.sequences[:-1] == written.sequences[:-1]
        with xr.open_zarr(tmp_path / f"{number}.zarr", consolidated=False) as dataset:
            b = dataset["acquisition.b_value"]
            assert b.units == "ms/um^2" and b.values.tolist() == written.b_value.tolist()
        assert torch.equal(back.b_tensor, written.b_tensor)
        assert (back.frame is None) == (written.frame is None)


def test_fsl_files_come_back(tmp_path):
    paths = [str(tmp_path / name) for name in ("bvals", "bvecs", "delta", "Delta")]
    write_fsl(pgse(), *paths)
    back = read_acquisition(bvals=paths[0], bvecs=paths[1], delta_ms=paths[2], Delta_ms=paths[3])
    # 17 digits are written; b goes through a square root.
    assert torch.allclose(back.gradient, pgse().gradient, rtol=1e-14, atol=0)
    assert torch.equal(back.durations("Delta"), pgse().durations("Delta"))


def test_a_camino_scheme_comes_back_with_its_echo_time(tmp_path):
    write_camino_scheme(pgse(TE=80.0), tmp_path / "a.scheme")
    back = read_acquisition(scheme=str(tmp_path / "a.scheme"))
    # Seconds and T/m are written, and turned back: rounding.
    assert torch.allclose(back.gradient, pgse().gradient, rtol=1e-14, atol=0)
    assert torch.allclose(back.durations("echo_time"), torch.full((3,), 80.0).double())
    assert torch.allclose(back.durations("delta"), torch.full((3,), 8.0).double())


def test_a_camino_echo_time_of_zero_means_none_and_a_short_one_is_refused(tmp_path):
    path = tmp_path / "a.scheme"
    path.write_text("VERSION: 2\n0 0 1 1000\n")
    with pytest.raises(SequenceError, match="first line is 'VERSION: 2'"):
        read_camino_scheme(path)
    path.write_text("VERSION: STEJSKALTANNER\n0 0 1 0.1 0.040 0.010 0\n")
    assert float(read_camino_scheme(path).durations("echo_time")[0]) == 50.0
    path.write_text("VERSION: STEJSKALTANNER\n0 0 1 0.1 0.040 0.010 0.045\n")
    with pytest.raises(SequenceError, match=r"echo time 45\.0 ms is before the gradient's end"):
        read_camino_scheme(path)


@pytest.mark.parametrize(
    "sequence", [PGSE(8.0, 19.0), EVERY[4], WAVEFORM], ids=lambda s: type(s).__name__
)
def test_waveforms_on_the_raster_come_back_exactly(tmp_path, sequence):
    """Every corner of these is a multiple of 0.5 ms."""
    write_camino_scheme(of(sequence), tmp_path / "a.scheme", raster=0.5)
    back = read_camino_scheme(tmp_path / "a.scheme")
    # Rounding of seconds and T/m.
    assert torch.allclose(back.b_tensor, of(sequence).b_tensor, rtol=1e-11, atol=1e-13)
    assert torch.allclose(back.durations("echo_time"), of(sequence).durations("echo_time"))


def test_a_smooth_waveform_on_a_raster_loses_b_to_second_order(tmp_path):
    """Cell means keep q at the cells' ends; between them q is a chord of the sine."""
    errors = []
    for raster in (0.5, 0.25):
        write_camino_scheme(of(EVERY[1]), tmp_path / "a.scheme", raster=raster)
        b = read_camino_scheme(tmp_path / "a.scheme").b_value
        errors.append(float((b - of(EVERY[1]).b_value).abs().max()))
    assert 2**1.7 < errors[0] / errors[1] < 2**2.3


@pytest.mark.parametrize("sequence", EVERY, ids=lambda s: type(s).__name__)
def test_a_csv_of_waveforms_holds_the_steps_of_any_sequence(tmp_path, sequence):
    path = tmp_path / "w.csv"
    write_waveforms(of(sequence), path)
    back = read_acquisition(scheme=str(path))
    # Steps of smooth profiles keep b to 3e-6 (fourth order); levels are rounded at 1e-12.
    smooth = type(sequence) in (PGSE, CosineOGSE, SineOGSE, TrapezoidalOGSE)
    tolerance = 1e-5 if smooth else 2e-11
    assert torch.allclose(back.b_tensor, of(sequence).b_tensor, rtol=0, atol=tolerance)
    # Written again they do not change: they are steps now.
    write_waveforms(back, tmp_path / "again.csv")
    again = read_waveforms(tmp_path / "again.csv")
    assert torch.allclose(again.b_tensor, back.b_tensor, rtol=0, atol=2e-11)


GOOD = "measurement,duration_ms,gx_mT_per_m,gy_mT_per_m,gz_mT_per_m\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "0,5,0,0,40\n0,5,0,0,40\n", "measurement 0 does not refocus"),
        (GOOD + "0,5,0,0,40\n0,5,0,0,-40\n2,5,0,0,0\n", "must be 0, 1, 2"),
        (GOOD + "1,5,0,0,40\n", "must be 0, 1, 2"),
        (GOOD, "must be 0, 1, 2"),
        (GOOD + "0,-5,0,0,40\n0,5,0,0,-40\n", r"step 0 lasts -5\.0 ms"),
        (GOOD + "0,5,0,0,nan\n0,5,0,0,-40\n", "levels are not all finite"),
        ("t,gx\n0,1\n", "no column measurement, duration_ms"),
    ],
)
def test_wrong_csv_waveforms_are_refused(tmp_path, text, message):
    (tmp_path / "w.csv").write_text(text)
    with pytest.raises(SequenceError, match=message):
        read_waveforms(tmp_path / "w.csv")
    with pytest.raises(StoreError, match="no such file"):
        read_waveforms(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2 0.005 0 0 0.04 0 0\n", "measurement 0 has 7 numbers, its first is 2"),
        ("2 0.005 0 0 0.04 0 0 0.04\n", "measurement 0 does not refocus"),
    ],
)
def test_wrong_camino_waveforms_are_refused(tmp_path, text, message):
    (tmp_path / "w.scheme").write_text("VERSION: GRADIENT_WAVEFORM\n" + text)
    with pytest.raises(SequenceError, match=message):
        read_camino_scheme(tmp_path / "w.scheme")


def test_the_signal_table_leaves_pulse_times_empty_for_a_free_waveform(tmp_path):
    ones = torch.ones(1, 3, dtype=torch.float64)
    write_signal_table(Signals(of(WAVEFORM), ones.to(torch.complex128), ones), tmp_path / "s.csv")
    rows = (tmp_path / "s.csv").read_text().splitlines()
    assert rows[0].split(",")[4:6] == ["delta_ms", "Delta_ms"]
    assert rows[2].split(",")[4:6] == ["", ""]


def test_a_waveform_as_camino_documents_it_has_caminos_b_value(tmp_path):
    """Layout of imaging.GradientWaveform_Scheme: K dt G1x G1y G1z G2x ... in s and T/m.

    Its b is gamma^2 dt sum_t |dt sum_{j<=t} G_j|^2, the exact integral for dt -> 0.
    """
    steps, dt = 400, 1e-4
    gradient = np.zeros((steps, 3))
    gradient[:100] = [0.04, 0.0, 0.03]
    gradient[250:350] = [-0.04, 0.0, -0.03]
    numbers = " ".join(f"{x:f}" for x in gradient.ravel())
    (tmp_path / "a.scheme").write_text(
        f"# by hand\nVERSION: GRADIENT_WAVEFORM\n{steps} {dt} {numbers}\n"
    )
    back = read_acquisition(scheme=str(tmp_path / "a.scheme"))
    q = 2.6752218744e8 * dt * np.cumsum(gradient, 0)
    # Camino's rectangles are off by a step of 25 ms of q: 1/250.
    assert float(back.b_value[0]) == pytest.approx((q**2).sum() * dt * 1e-9, rel=1e-2)
    # The rectangular pulses' closed form, delta 10 ms, Delta 25 ms, 50 mT/m; rounding of sums.
    exact = (2.6752218744e8 * 0.05 * 0.010) ** 2 * (0.025 - 0.010 / 3) * 1e-9
    assert float(back.b_value[0]) == pytest.approx(exact, rel=1e-10)
    assert float(back.durations("echo_time")[0]) == pytest.approx(40.0)
    assert back.b_tensor[0, 0, 0] > back.b_tensor[0, 2, 2] > 0 == back.b_tensor[0, 1, 1]


def test_a_camino_direction_of_zero_has_no_gradient_and_version_1_is_stejskal_tanner(tmp_path):
    """Camino multiplies |G| with the direction."""
    rows = "0 0 0 0.1 0.040 0.010 0\n0 0 1 0.1 0.040 0.010 0\n"
    for version in ("1", "STEJSKALTANNER"):
        (tmp_path / "a.scheme").write_text(f"VERSION:  {version}\n{rows}")
        amplitude = read_camino_scheme(tmp_path / "a.scheme").amplitude
        assert amplitude.tolist() == pytest.approx([0.0, 100.0], rel=1e-14)


def test_a_layout_of_mcdc_is_not_taken_for_caminos(tmp_path):
    """MC/DC: one line of echo time, steps and measurements, then all gradients."""
    numbers = " ".join(["0.04 0 0", "-0.04 0 0"] * 3)
    (tmp_path / "a.scheme").write_text(f"VERSION: GRADIENT_WAVEFORM\n0.04 2 3 {numbers}\n")
    with pytest.raises(SequenceError, match="MC/DC"):
        read_camino_scheme(tmp_path / "a.scheme")


@pytest.mark.parametrize("raster", [None, 0.5])
def test_schemes_come_back_as_the_same_sequences(tmp_path, raster):
    """Steps and levels of every measurement; twice written is once written."""
    acquisition = Acquisition.joined([pgse(TE=80.0), pgse(TE=60.0)])
    write_camino_scheme(acquisition, tmp_path / "a.scheme", raster)
    back = read_camino_scheme(tmp_path / "a.scheme")
    for index in range(len(acquisition)):
        ours, theirs = (a.sequences[int(a.timing[index])] for a in (acquisition, back))
        one = torch.tensor([index])
        (length, level), (length_, level_) = ours.steps(), theirs.steps()
        gradient = level @ acquisition.vectors(one)[0].numpy().T
        gradient_ = level_ @ back.vectors(one)[0].numpy().T
        if acquisition.amplitude[index] > 0:
            # Seconds and T/m are written with 17 digits; steps are rounded to 1e-12.
            assert np.allclose(length, length_, rtol=0, atol=1e-10)
            assert np.allclose(gradient, gradient_, rtol=1e-9, atol=1e-9)
        assert ours.echo_time == pytest.approx(theirs.echo_time, rel=1e-12)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"scheme": "a.scheme", "bvals": "b"}, "`scheme` excludes bvals"),
        ({"bvals": "b", "bvecs": "v", "Delta_ms": 40.0}, "delta_ms missing"),
        ({}, "bvals, bvecs, delta_ms, Delta_ms missing"),
    ],
)
def test_wrong_combinations_are_refused_before_a_file_is_opened(given, words):
    with pytest.raises(ConfigError, match=words):
        read_acquisition(**given)


@pytest.mark.parametrize("wrong", ["signal", "unweighted"])
def test_nothing_that_is_not_a_number_is_written(tmp_path, wrong):
    ones = torch.ones(1, 3, dtype=torch.float64)
    parts = {"signal": ones.to(torch.complex128), "unweighted": ones.clone()}
    parts[wrong][0, 1] = torch.nan
    for write, name in ((save, "s.zarr"), (write_signal_table, "s.csv")):
        with pytest.raises(StoreError, match=r"not finite \(first: substrate 0, measurement 1"):
            write(Signals(pgse(), **parts), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


# ---- Pulseq
def spin_echoes(path, amplitudes, *, readout: bool = True, data: bool = True) -> None:
    """A Pulseq file: for each amplitude (mT/m, 3 axes) 90 degrees, gradient, 180, gradient, data.

    Slopes of 0.5 ms, 10 ms flat; the second slope starts 12.12 ms after the first. The readout's
    gradient is 5 mT/m along x, wound back before, with the echo in its middle.
    """
    pulseq = pytest.importorskip("pypulseq")
    hz_per_m = GAMMA * 1e9 / (2 * np.pi)
    limits = pulseq.Opts(
        max_grad=100, grad_unit="mT/m", max_slew=200, slew_unit="T/m/s", rf_ringdown_time=2e-5,
        rf_dead_time=1e-4, adc_dead_time=1e-5,
    )  # fmt: skip
    sequence = pulseq.Sequence(limits)
    pulse = partial(pulseq.make_block_pulse, duration=1e-3, delay=1e-4, system=limits)
    trapezoid = partial(pulseq.make_trapezoid, system=limits, rise_time=5e-4)
    for amplitude in amplitudes:
        axes = zip("xyz", amplitude, strict=True)
        gradients = [
            trapezoid(axis, amplitude=g * hz_per_m, flat_time=1e-2) for axis, g in axes if g
        ]
        read = trapezoid("x", amplitude=5 * hz_per_m, flat_time=2e-3)
        wind = trapezoid("x", area=-read.area / 2, flat_time=1e-3)
        sequence.add_block(pulse(np.pi / 2, use="excitation"))
        sequence.add_block(*(gradients or [pulseq.make_delay(0.011)]))
        sequence.add_block(pulse(np.pi, use="refocusing"))
        sequence.add_block(*(gradients or [pulseq.make_delay(0.011)]))
        if readout:
            sequence.add_block(wind)
        if data:
            adc = pulseq.make_adc(65, dwell=2e-5, delay=1.5e-3 - 32.5 * 2e-5, system=limits)
            sequence.add_block(adc, *([read] if readout else []))
        sequence.add_block(pulseq.make_delay(0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a file without the scanner's dead times
        sequence.write(str(path))


def test_a_pulseq_file_is_a_waveform_for_each_excitation_until_its_echo(tmp_path):
    """b of two pulses with slopes: Stejskal & Tanner (1965), eq. for trapezoids."""
    spin_echoes(tmp_path / "a.seq", [(0, 60, 0), (0, 0, 0), (30, 0, 40)], readout=False)
    read = read_acquisition(scheme=str(tmp_path / "a.seq"))
    delta, Delta, slope = 10.5, 12.12, 0.5
    unit = delta**2 * (Delta - delta / 3) + slope**3 / 30 - delta * slope**2 / 6
    expected = (GAMMA * np.array([60.0, 0.0, 50.0])) ** 2 * unit
    # The file has six digits of an amplitude, at worst 5e-6, and b its square. Steps of 10 us in a
    # slope of 500 change b by (1/50)^2 of the slopes' share of it, some 1e-3.
    assert read.b_value.numpy() == pytest.approx(expected, rel=1e-5, abs=1e-12)
    tensor = read.b_tensor[2].numpy()
    direction = np.array([0.6, 0.0, 0.8])
    assert tensor == pytest.approx(expected[2] * np.outer(direction, direction), abs=1e-6)
    # From the middle of the first pulse: half of it, both gradients, the second pulse with its
    # delay and ringing, and the middle of 65 samples.
    echo = 0.5 + 0.02 + 11 + 0.1 + 1 + 0.02 + 11 + 1.5
    assert read.durations("echo_time").tolist() == pytest.approx([echo] * 3, abs=0.011)


def test_the_readout_of_a_pulseq_file_is_cancelled_at_the_echo_and_counts_before(tmp_path):
    spin_echoes(tmp_path / "a.seq", [(0, 60, 0), (60, 0, 0)])
    spin_echoes(tmp_path / "b.seq", [(0, 60, 0)], readout=False)
    read = read_acquisition(scheme=str(tmp_path / "a.seq"))
    alone = read_acquisition(scheme=str(tmp_path / "b.seq"))
    for number, (sequence, gradient) in enumerate(zip(read.sequences, read.gradient, strict=True)):
        moment = (sequence.durations[:, None] * sequence.levels).sum(0)
        size = np.abs(sequence.durations[:, None] * sequence.levels).sum()
        assert np.linalg.norm(moment) < 1e-6 * size, (number, gradient)
    added = (read.b_value - alone.b_value).tolist()
    # Across the pulses the readout adds its own b alone, less than 1e-3 of theirs.
    assert 0 < added[0] < 1e-3 * float(alone.b_value)


def test_a_pulseq_file_without_data_or_without_its_reader_is_refused(tmp_path, monkeypatch):
    spin_echoes(tmp_path / "a.seq", [(0, 60, 0)], data=False)
    with pytest.raises(SequenceError, match=r"a\.seq: no data are read after any of its 1 excit"):
        read_acquisition(scheme=str(tmp_path / "a.seq"))
    (tmp_path / "b.seq").write_text("[VERSION]\nmajor 9\n")
    with pytest.raises(StoreError, match=r"b\.seq: cannot be read as Pulseq file"):
        read_acquisition(scheme=str(tmp_path / "b.seq"))
    monkeypatch.setitem(sys.modules, "pypulseq", None)
    with pytest.raises(ConfigError, match=r"pip install 'spinmesh\[pulseq\]'"):
        read_acquisition(scheme=str(tmp_path / "a.seq"))
