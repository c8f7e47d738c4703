"""`make respiratory` from sounds to tables, figures and a model that classifies wav files."""

import runpy
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from experiments.respiratory.settings import Respiratory
from spinmesh import cli
from spinmesh.errors import ConfigError
from spinmesh.io.sounds import write_wav
from spinmesh.io.tables import read_rows
from spinmesh.sounds import Recording

ROOT = Path(__file__).parents[2]
HOME = ROOT / "experiments/respiratory"
TINY = Respiratory.checked(yaml.safe_load((HOME / "tiny.yaml").read_text()), "tiny")
# Settings of the spikes themselves, which networks are not told.
SPIKES = ("bits", "rate_steps", "step_db")


def script(name: str, home: Path, wildcards: dict[str, str] | None = None, **files: Any) -> None:
    """Run a script of the workflow in this process, with the parameters of its rule."""
    sections = {key: getattr(TINY, key).model_dump() for key in ("features", "afen", "spiking")}
    sections["spiking"] = {k: v for k, v in sections["spiking"].items() if k not in SPIKES}
    sections["sounds"] = TINY.sounds.model_dump(exclude={"folder", "diagnoses"})
    other = {"seed": TINY.seed, "diagnoses": None, "device": "cpu", "checkpoint": home / "c"}
    other |= {"steps": TINY.spiking.rate_steps, "step_db": TINY.spiking.step_db}
    other |= {"provenance": {"seed": TINY.seed, "config_digest": "tiny"}}
    names = SimpleNamespace(**files)
    given = SimpleNamespace(
        input=names, output=names, params=SimpleNamespace(**sections, **other),
        log=[str(home / "logs" / f"{name}.log")], wildcards=SimpleNamespace(**wildcards or {}),
    )  # fmt: skip
    runpy.run_path(str(HOME / f"scripts/{name}.py"), init_globals={"snakemake": given})


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the whole workflow leaves behind."""
    folder, hook, show = tmp_path_factory.mktemp("tiny"), sys.excepthook, warnings.showwarning
    stores = [folder / f"{split}.zarr" for split in ("patient", "random")]
    try:
        script("generate", folder, folder=folder / "sounds")
        script(
            "describe_windows", folder, folder=folder / "sounds", windows=folder / "windows.zarr"
        )
        script("describe_cycles", folder, folder=folder / "sounds", cycles=folder / "cycles.zarr")
        for store in stores:
            script(
                "compare", folder, {"split": store.stem}, windows=folder / "windows.zarr",
                model=folder / f"model_{store.stem}.zarr", comparison=store,
            )  # fmt: skip
        tables = {name: folder / f"{name}.csv" for name in ("table", "classes")}
        script("tables", folder, comparisons=stores, **tables)
        run_spiking(folder)
        figures = {name: folder / f"{name}.png" for name in ("sounds", "scores", "splits")}
        script("plot", folder, comparisons=stores, **{**figures, "folder": folder / "sounds"})
    finally:
        sys.excepthook, warnings.showwarning = hook, show
    return folder


def run_spiking(folder: Path) -> None:
    """The rules of spiking.smk, at two bits."""
    stores = []
    script("event_spikes", folder, cycles=folder / "cycles.zarr", spikes=folder / "events.zarr")
    script("digit_spikes", folder, spikes=folder / "digits.zarr")
    for task in ("digits", "events"):
        files = {"spikes": folder / f"{task}.zarr", "full": folder / f"{task}_32.zarr"}
        script("train_full_precision", folder, {"task": task}, ablation=files["full"], **files)
        few = folder / f"{task}_2.zarr"
        script("train_at_bits", folder, {"task": task, "bits": "2"}, ablation=few, **files)
        stores += [files["full"], few]
    names = {"table": folder / "spiking.csv", "figure": folder / "spiking.png"}
    script("tabulate_spiking", folder, ablations=stores, **names)


@pytest.mark.slow
def test_the_table_of_bits_has_every_method_of_both_tasks(results: Path) -> None:
    rows = read_rows(results / "spiking.csv")
    assert [row["bits"] for row in rows] == 2 * ([32] * 4 + [2] * 8)
    assert {row["task"] for row in rows} == {"digits", "events"}
    for row in rows:
        assert 0 <= row["accuracy"] <= 100 and 0 <= row["macro_f1"] <= 100
        # One network has no spread.
        assert row["networks"] == 1 and not row["accuracy_std"] >= 0


@pytest.mark.slow
def test_tables_have_every_method_split_and_class(results: Path) -> None:
    rows = read_rows(results / "table.csv")
    methods = {"vote", "attention", "trees", "perceptron", "majority"}
    expected = {(split, method) for split in ("patient", "random") for method in methods}
    assert {(row["split"], row["method"]) for row in rows} == expected
    classes = {row["class"] for row in read_rows(results / "classes.csv")}
    assert classes == {"healthy", "asthma", "COPD", "fibrosis", "pneumonia", "all"}
    for row in rows:
        assert 0 <= row["f1"] <= 1 and row["nll"] > 0


def classify(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Exit code of the program."""
    monkeypatch.setattr("sys.argv", ["spinmesh", "classify", *words])
    with pytest.raises(SystemExit) as exit_, warnings.catch_warnings():
        cli.run()
    return int(exit_.value.code or 0)


@pytest.mark.slow
def test_wav_files_are_classified_or_refused(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Probabilities of every class sum to 1; a sound that is silent names itself."""
    files = [str(path) for path in sorted((results / "sounds").glob("*.wav"))[:2]]
    model = ["--model", str(results / "model_patient.zarr")]
    table = tmp_path / "answers.csv"
    assert classify(monkeypatch, *files, *model, "--out", str(table)) == 0
    assert files[1] in capsys.readouterr().out
    for row in read_rows(table):
        # The table has six digits.
        assert sum(
            row[name] for name in ("healthy", "asthma", "COPD", "fibrosis", "pneumonia")
        ) == (pytest.approx(1, abs=1e-5))
    silent = tmp_path / "silent.wav"
    write_wav(Recording("silent", np.zeros(16_000), 4000.0), silent)
    assert classify(monkeypatch, *files, str(silent), *model) == 1
    told = capsys.readouterr()
    assert "silent.wav: silent" in told.err and files[0] not in told.out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sounds", "scores", "splits", "spiking"])
def test_figures_are_drawn(results: Path, name: str) -> None:
    assert (results / f"{name}.png").stat().st_size > 10_000


def test_configuration_is_checked_before_any_job() -> None:
    Respiratory.checked(yaml.safe_load((HOME / "config.yaml").read_text()), "config")
    with pytest.raises(ConfigError, match=r"sounds\.pateints.*patients"):
        Respiratory.checked({"sounds": {"pateints": 100}}, "config")
    with pytest.raises(ConfigError, match=r"afen\.test_fraction"):
        Respiratory.checked({"afen": {"test_fraction": 0.9}}, "config")
