"""Sounds on disk: wav files, and folders of them in the layout of ICBHI 2017.

101_1b1_Al_sc_Meditron.wav   patient, recording, place, mode, device
101_1b1_Al_sc_Meditron.txt   start, end (s), crackles, wheezes (0 or 1) of each cycle
patient_diagnosis.csv        patient, diagnosis; anywhere in the folder, as .csv or .txt
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import soundfile

from spinmesh.errors import StoreError
from spinmesh.files.reading import reading
from spinmesh.files.writing import complete_or_absent
from spinmesh.progress import progress
from spinmesh.sounds import Cycle, Recording

NAME = re.compile(r"\d+(_[^_]+){4}")
DIAGNOSES = "patient_diagnosis.csv"
# Of each diagnosis.
LEAST_PATIENTS = 3
LAYOUT = "Compare the folder with docs/methods/sounds.md."


def read_wav(path: str | Path) -> Recording:
    """Any PCM or float wav; of several channels the mean. StoreError if it is none."""
    with reading(path, "wav file"):
        samples, rate = soundfile.read(path, dtype="float64", always_2d=True)
    if not len(samples):
        raise StoreError(f"{path}: too short: it holds no samples. Record it again.")
    return Recording(Path(path).stem, samples.mean(1), float(rate))


def read_folder(
    folder: str | Path, diagnoses: Collection[str] | None = None
) -> Iterator[Recording]:
    """The recordings of a folder, one at a time; those of other `diagnoses` are left out.

    Names, cycle tables and diagnoses are checked before the first is read. Raises StoreError for a
    recording without its table or its patient's diagnosis, for either without recordings, and for
    a file that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise StoreError(f"{folder}: no such folder. Correct `sounds.folder`.")
    waves = {path.stem: path for path in sorted(folder.rglob("*.wav"))}
    tables = {path.stem: path for path in folder.rglob("*.txt") if NAME.fullmatch(path.stem)}
    if not waves:
        raise StoreError(f"{folder}: holds no *.wav. {LAYOUT}")
    _refuse(folder, [name for name in waves if not NAME.fullmatch(name)],
            "not named PATIENT_recording_place_mode_device.wav")  # fmt: skip
    _refuse(folder, waves.keys() - tables.keys(), "without a cycle table of the same name (.txt)")
    _refuse(folder, tables.keys() - waves.keys(), "a cycle table without a recording (.wav)")
    diagnosis_of = _read_diagnoses(folder)
    patients = {name.split("_")[0] for name in waves}
    _refuse(folder, patients - diagnosis_of.keys(), "a patient without a diagnosis")
    _refuse(
        folder, diagnosis_of.keys() - patients, "a diagnosis without a recording of the patient"
    )
    if diagnoses is not None:
        _refuse(
            folder, set(diagnoses) - set(diagnosis_of.values()), "a diagnosis that no patient has"
        )
    for diagnosis in sorted(set(diagnosis_of.values() if diagnoses is None else diagnoses)):
        count = sum(each == diagnosis for each in diagnosis_of.values())
        if count < LEAST_PATIENTS:
            raise StoreError(
                f"{folder}: {diagnosis} is the diagnosis of {count} patients; {LEAST_PATIENTS} are"
                " needed: to learn from, to choose by and to judge on. Name the others in "
                "`sounds.diagnoses`."
            )
    cycles = {name: _read_cycles(path) for name, path in tables.items()}
    return (
        replace(read_wav(path), cycles=cycles[name], diagnosis=diagnosis_of[name.split("_")[0]])
        for name, path in waves.items()
        if diagnoses is None or diagnosis_of[name.split("_")[0]] in diagnoses
    )


def write_folder(
    recordings: Iterable[Recording], folder: str | Path, subtype: str = "PCM_16"
) -> None:
    """Recordings with their cycles and diagnoses, complete or not at all."""
    diagnoses = {}
    with complete_or_absent(Path(folder)) as partial:
        partial.mkdir()
        for each in progress(recordings, "writing sounds"):
            write_wav(each, partial / f"{each.name}.wav", subtype)
            lines = [
                f"{c.start:.3f}\t{c.end:.3f}\t{c.crackles:d}\t{c.wheezes:d}" for c in each.cycles
            ]
            (partial / f"{each.name}.txt").write_text("".join(f"{line}\n" for line in lines))
            diagnoses[each.patient] = each.diagnosis
        rows = [f"{patient},{diagnosis}\n" for patient, diagnosis in diagnoses.items()]
        (partial / DIAGNOSES).write_text("".join(rows))


def write_wav(recording: Recording, path: str | Path, subtype: str = "PCM_16") -> None:
    """A wav file; samples beyond 1 are clipped."""
    soundfile.write(path, recording.samples, round(recording.rate), subtype, format="WAV")


def _refuse(folder: Path, names: Collection[str], what: str) -> None:
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise StoreError(f"{folder}: {min(names)}{more}: {what}. {LAYOUT}")


def _read_diagnoses(folder: Path) -> dict[str, str]:
    """Diagnosis by patient, from the one file that has the word in its name."""
    files = [p for p in sorted(folder.rglob("*diagnosis*")) if p.suffix in (".csv", ".txt")]
    if len(files) != 1:
        raise StoreError(
            f"{folder}: {len(files)} files are called *diagnosis*.csv or .txt; one must. {LAYOUT}"
        )
    with reading(files[0], "table of diagnoses", LAYOUT):
        rows = [
            re.split(r"[,;\t]", line) for line in files[0].read_text().split("\n") if line.strip()
        ]
        return {str(int(patient)): diagnosis.strip() for patient, diagnosis in rows}


def _read_cycles(path: Path) -> tuple[Cycle, ...]:
    with reading(path, "cycle table", "Its rows are start, end, crackles (0, 1), wheezes (0, 1)."):
        rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
        cycles = tuple(Cycle(float(a), float(b), c == "1", w == "1") for a, b, c, w in rows)
    for cycle in cycles:
        if not 0 <= cycle.start < cycle.end:
            raise StoreError(
                f"{path}: a cycle from {cycle.start:g} to {cycle.end:g} s. Correct it."
            )
    return cycles
