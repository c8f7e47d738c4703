"""The summary repeats its inputs, fits one screen, and says when a fit is not to be believed."""

from dataclasses import replace

import pytest
import torch

from spinmesh.inversion import Fit, Target
from spinmesh.mesh import tet_quality
from spinmesh.report.summary import stage_times, summary_text
from spinmesh.shapes import shape_errors


def test_times_add_up_per_stage(tmp_path) -> None:
    """Snakemake writes a row per repetition; other columns and files do not matter."""
    head = "s\th:m:s\tmax_rss\n"
    for name, rows in {
        "mesh/sample.tsv": ["1.5\t0:00:01\t9"],
        "simulate/simulate_shard-0.tsv": ["10.0\t0:00:10\t9"],
        "simulate/simulate_shard-1.tsv": ["12.0\t0:00:12\t9", "1.0\t0:00:01\t9"],
        "simulate/simulate_target.tsv": ["4.0\t0:00:04\t9"],
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(head + "\n".join(rows) + "\n")
    (tmp_path / "notes.txt").write_text("no benchmark")
    assert stage_times(tmp_path) == {
        "mesh": 1.5,
        "sample": 1.5,
        "simulate": 27.0,
        "simulate_shard-0": 10.0,
        "simulate_shard-1": 13.0,
        "simulate_target": 4.0,
    }


TIMES = {"mesh": 1.5, "simulate": 30.0, "simulate_shard-0": 7.0, "reconstruct": 5.0}


@pytest.fixture
def parts(substrates, signals, reconstruction, model, target_mesh, synthesis):
    return [substrates, signals.acquisition, 3, reconstruction, model, target_mesh, synthesis]


def test_summary_states_the_key_number_of_every_stage(parts) -> None:
    substrates = parts[0]
    text = summary_text("results/x", TIMES, *parts)
    worst = min(float(tet_quality(substrates.mesh(i)).min()) for i in range(7))
    assert f"7 substrates of {len(substrates.template.tets)} tets" in text
    assert f"worst tet quality {worst:.2f}" in text
    # 7 shapes x 8 measurements in the 7 s of the shards, not in the 30 s of the stage.
    assert "56 signals" in text and "8 per second" in text and "30.0 s" in text
    result, model, truth = parts[3], parts[4], parts[5].mesh(0)
    mean = model.basis.template.with_points(model.mean_points)
    errors = [shape_errors(mesh, truth)["radius"] for mesh in (result.mesh, mean)]
    assert f"{errors[0]:.3f} um, mean training shape {errors[1]:.3f} um" in text
    assert f"chi2 per measurement {result.fit.chi2_per_measurement:.2f} over 8" in text
    assert "3 inputs: results/x/inputs.csv" in text
    assert "log error 0.123" in text and "0.057" in text and "1.891" in text
    assert "36 s in all" in text or "37 s in all" in text
    for stage in ("mesh", "simulate", "reconstruct", "synthesise"):
        assert f"results/x/{stage}/" in text


def test_summary_fits_one_screen(parts) -> None:
    """24 lines of 100 columns, also with every line that can appear and a long path."""
    fit = replace(parts[3].fit, chi2=parts[3].fit.chi2 + 99.0)
    parts[3] = replace(parts[3], fit=fit)
    lines = summary_text("results/" + "long/" * 30, TIMES, *parts).splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 100


def test_a_shape_worse_than_the_mean_shape_is_not_called_better(parts, monkeypatch) -> None:
    errors = {"radius": (0.4, 0.348), "bend": (0.045, 0.18)}
    monkeypatch.setattr("spinmesh.report.summary.errors_beside_mean_shape", lambda *_: errors)
    text = summary_text("x", TIMES, *parts)
    assert "0.400 um, mean training shape 0.348 um: WORSE, factor 0.87" in text
    assert "0.045 um, mean training shape 0.180 um: better by a factor 4.0" in text


@pytest.mark.parametrize(("chi2", "word"), [(9.0, "not explained"), (1.0, None), (0.01, "Raise")])
def test_implausible_chi2_of_a_measured_signal_is_a_warning(parts, chi2, word) -> None:
    """The mean of 200 squared residuals scatters by sqrt(2 / 200) = 0.1 around 1."""
    given, many = parts[3].target, torch.arange(200) % 8
    target = Target(given.acquisition.select(many), given.attenuation[many], given.sigma)
    found = replace(
        parts[3],
        target=target,
        fit=Fit(parts[3].fit.predicted[many], torch.full((200,), chi2, dtype=torch.float64), 2),
    )
    text = summary_text("results/x", TIMES, *parts[:2], 0, found, parts[4], None, parts[6])
    assert f"chi2 per measurement {chi2:.2f}" in text and "no truth" in text
    assert [each for each in ("not explained", "Raise") if each in text] == [word] * bool(word)
