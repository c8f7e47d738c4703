"""Wav files and folders of them: read as they were written, or refused by name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from spinmesh.errors import SoundWarning, StoreError
from spinmesh.io.sounds import DIAGNOSES, read_folder, read_wav, write_folder, write_wav
from spinmesh.settings.respiratory import LungSounds
from spinmesh.sounds import Recording, at_rate, doubts, generate, prepared, refuse_unusable

SMALL = LungSounds(patients=20, recordings=1, seconds=3.0)
# A last bit: libsndfile cuts the rest off.
PRECISION = {"PCM_16": 2.0**-15, "PCM_24": 2.0**-23, "PCM_32": 2.0**-31, "FLOAT": 2.0**-24}


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    return list(generate(SMALL, 4))


@pytest.fixture
def folder(recordings: list[Recording], tmp_path: Path) -> Path:
    write_folder(recordings, tmp_path / "icbhi")
    return tmp_path / "icbhi"


def sine(pitch: float, rate: float = 4000.0, seconds: float = 3.0) -> Recording:
    time = np.arange(round(seconds * rate)) / rate
    return Recording("7_1b1_Al_sc_Meditron", 0.5 * np.sin(2 * np.pi * pitch * time), rate)


@pytest.mark.parametrize("subtype", PRECISION)
@pytest.mark.parametrize("rate", [4000.0, 44100.0])
def test_wav_comes_back_to_its_last_bit(subtype: str, rate: float, tmp_path: Path) -> None:
    sound = sine(440.0, rate)
    write_wav(sound, tmp_path / "a.wav", subtype)
    again = read_wav(tmp_path / "a.wav")
    assert again.rate == rate
    np.testing.assert_allclose(again.samples, sound.samples, atol=1.01 * PRECISION[subtype])


def test_two_channels_become_their_mean(tmp_path: Path) -> None:
    left, right = sine(100.0).samples, sine(300.0).samples
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), 4000, "PCM_24")
    again = read_wav(tmp_path / "a.wav").samples
    np.testing.assert_allclose(again, (left + right) / 2, atol=2.0**-23)


def test_folder_comes_back(recordings: list[Recording], folder: Path) -> None:
    """Names, patients, diagnoses and cycles; start and end are written to 1 ms."""
    again = {each.name: each for each in read_folder(folder)}
    assert again.keys() == {each.name for each in recordings}
    for each in recordings:
        other = again[each.name]
        assert (other.diagnosis, other.rate) == (each.diagnosis, each.rate)
        assert [c.label for c in other.cycles] == [c.label for c in each.cycles]
        for one, two in zip(other.cycles, each.cycles, strict=True):
            assert one.start == pytest.approx(two.start, abs=6e-4)


def test_only_the_diagnoses_asked_for_are_read(folder: Path) -> None:
    told = {each.diagnosis for each in read_folder(folder, ("COPD", "asthma"))}
    assert told == {"COPD", "asthma"}


def test_resampling_keeps_a_pitch_and_its_height() -> None:
    """And drops what 4 kHz cannot hold: a tone of 5 kHz would come back at 1 kHz."""
    low, high = at_rate(sine(440.0, 44100.0)), at_rate(sine(5000.0, 44100.0))
    expected = sine(440.0).samples
    inner = slice(100, -100)
    np.testing.assert_allclose(low.samples[inner], expected[inner], atol=2e-3)
    assert np.abs(high.samples[inner]).max() < 2e-3


def first(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]


BROKEN: dict[str, Callable[[Path], object]] = {
    r"no \*\.wav": lambda folder: [path.unlink() for path in folder.glob("*.wav")],
    "without a cycle table": lambda folder: first(folder, "1*.txt").unlink(),
    "a cycle table without a recording": lambda folder: first(folder, "1*.wav").unlink(),
    "not named PATIENT": lambda folder: first(folder, "*.wav").rename(folder / "breath.wav"),
    "a patient without a diagnosis": lambda folder: (folder / DIAGNOSES).write_text("101,COPD\n"),
    "a diagnosis without a recording": lambda folder: (
        (folder / DIAGNOSES).open("a").write("999,COPD\n")
    ),
    "0 files are called": lambda folder: (folder / DIAGNOSES).unlink(),
    "cannot be read as table of diagnoses": lambda folder: (folder / DIAGNOSES).write_text("?\n"),
    "cannot be read as cycle table": lambda folder: first(folder, "1*.txt").write_text("0 1 x\n"),
    "a cycle from 2 to 1 s": lambda folder: first(folder, "1*.txt").write_text("2 1 0 0\n"),
    "cold is the diagnosis of 1 patients": lambda folder: (folder / DIAGNOSES).write_text(
        (folder / DIAGNOSES).read_text().replace("101,healthy", "101,cold")
    ),
}


@pytest.mark.parametrize("message", BROKEN)
def test_broken_folder_is_refused_before_a_sound_is_read(message: str, folder: Path) -> None:
    BROKEN[message](folder)
    with pytest.raises(StoreError, match=message):
        read_folder(folder)


def test_absent_folder_and_unknown_diagnosis_are_refused(folder: Path) -> None:
    with pytest.raises(StoreError, match="no such folder"):
        read_folder(folder / "nowhere")
    with pytest.raises(StoreError, match=r"gout.*no patient has"):
        read_folder(folder, ("gout",))


def test_file_that_is_no_wav_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"a breath" * 100)
    with pytest.raises(StoreError, match=r"a\.wav: cannot be read as wav file"):
        read_wav(tmp_path / "a.wav")
    soundfile.write(tmp_path / "b.wav", np.zeros(0), 4000)
    with pytest.raises(StoreError, match=r"b\.wav: too short"):
        read_wav(tmp_path / "b.wav")


def test_sounds_without_use_are_refused_by_name() -> None:
    """Shorter than a window, silent, not finite, too few samples a second."""
    good = sine(300.0)
    refuse_unusable(good, 3.0)
    samples = good.samples.copy()
    samples[17] = np.nan
    name = good.name
    for bad, seconds, message in (
        (good, 3.1, "too short: 3.00 s of at least 3.1 s"),
        (Recording(name, np.full(12_000, 0.2), 4000.0), 1.0, "silent"),
        (Recording(name, samples, 4000.0), 1.0, "1 samples are not finite"),
        (sine(300.0, 2000.0), 1.0, "2000 samples a second"),
    ):
        with pytest.raises(StoreError, match=rf"7_1b1_Al_sc_Meditron\.wav: {message}"):
            refuse_unusable(bad, seconds)


def test_clipped_sound_is_flagged() -> None:
    """Twice as loud as the file can hold; a sine that fits is none, however loud."""
    good = sine(300.0)
    clipped = Recording(good.name, np.clip(4 * good.samples, -1, 1), 4000.0)
    assert "clipped" in doubts(clipped)[0]
    with pytest.warns(SoundWarning, match="clipped"):
        prepared(clipped, 1.0)
    assert doubts(Recording(good.name, 2 * good.samples, 4000.0)) == []


def test_rate_that_is_not_the_recording_s_is_flagged(recordings: list[Recording]) -> None:
    """The same samples, said to be of the other rate; no recording as it is."""
    for recording in recordings:
        assert doubts(recording) == []
    for recording in recordings:
        other = 44100.0 if recording.rate == 4000 else 4000.0
        wrong = Recording(recording.name, recording.samples, other)
        assert any("samples a second in its header" in doubt for doubt in doubts(wrong))
