"""The summary repeats its inputs, fits one screen, and says when a fit is not to be believed."""

from dataclasses import replace

import pytest
import torch

from spinmesh.inversion import Target
from spinmesh.report.quality import tet_quality
from spinmesh.report.summary import stage_times, summary_text


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
def parts(substrates, signals, reconstruction, synthesis):
    user = replace(signals, signal=signals.signal[:1], unweighted=signals.unweighted[:1])
    return [substrates, signals, user, reconstruction, synthesis]


def test_summary_states_the_key_number_of_every_stage(parts) -> None:
    substrates = parts[0]
    text = summary_text("results/x", TIMES, *parts)
    worst = min(float(tet_quality(substrates.mesh(i)).min()) for i in range(7))
    assert f"7 substrates of {len(substrates.template.tets)} tets" in text
    assert f"worst tet quality {worst:.2f}" in text
    # 7 shapes x 8 measurements in the 7 s of the shards, not in the 30 s of the stage.
    assert "56 signals" in text and "8 per second" in text and "30.0 s" in text
    assert "0.123 um, mean training shape 0.369 um: better by a factor 3.0" in text
    assert "0.045 um, mean training shape 0.180 um: better by a factor 4.0" in text
    assert "chi2 per measurement 1.12 over 8" in text or "chi2 per measurement 1.13 over 8" in text
    assert "log error 0.123" in text and "0.057" in text and "1.891" in text
    assert "36 s in all" in text or "37 s in all" in text
    assert "WARNING" not in text
    for stage in ("mesh", "simulate", "reconstruct", "synthesise"):
        assert f"results/x/{stage}/" in text


def test_summary_fits_one_screen(parts) -> None:
    """24 lines of 100 columns, also with every line that can appear and a long path."""
    poor = replace(parts[3], metrics=parts[3].metrics | {"chi2_per_measurement": 99.0})
    lines = summary_text("results/" + "long/" * 30, TIMES, *parts[:3], poor, parts[4]).splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 100


def test_a_shape_worse_than_the_mean_shape_is_not_called_better(parts) -> None:
    metrics = parts[3].metrics | {"radius_gain": 0.87}
    text = summary_text("x", TIMES, *parts[:3], replace(parts[3], metrics=metrics), parts[4])
    assert "WORSE, factor 0.87" in text and "better by a factor 4.0" in text


@pytest.mark.parametrize(("chi2", "word"), [(9.0, "not explained"), (1.0, None), (0.01, "Raise")])
def test_implausible_chi2_of_a_measured_signal_is_a_warning(parts, chi2, word) -> None:
    """The mean of 200 squared residuals scatters by sqrt(2 / 200) = 0.1 around 1."""
    given, many = parts[3].target, torch.arange(200) % 8
    target = Target(given.acquisition.select(many), given.attenuation[many], given.sigma)
    found = replace(
        parts[3],
        target=target,
        predicted=parts[3].predicted[many],
        metrics={"chi2_per_measurement": chi2},
        chi2=torch.full((200,), chi2, dtype=torch.float64),
    )
    text = summary_text("results/x", TIMES, *parts[:2], None, found, parts[4])
    assert f"chi2 per measurement {chi2:.2f}" in text and "no truth" in text
    assert ("WARNING" in text) == (word is not None)
    assert word is None or word in text
