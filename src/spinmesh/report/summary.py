"""The run on one screen: of each stage its time, its key numbers and where its results are."""

from __future__ import annotations

import csv
from pathlib import Path
from textwrap import wrap

from spinmesh.images import Synthesis
from spinmesh.inversion import Reconstruction, credibility
from spinmesh.mesh import Substrates
from spinmesh.sequence import Acquisition
from spinmesh.shapes import ShapeModel, errors_beside_mean_shape

WIDTH, MARGIN = 100, 24
STAGES = ("mesh", "simulate", "reconstruct", "synthesise")


def stage_times(folder: str | Path) -> dict[str, float]:
    """Seconds of each stage, and of each of its jobs, from `<stage>/<job>.tsv` in `folder`.

    These are Snakemake's benchmark tables (column `s`, one row per repetition). Jobs appear under
    the file's name without `.tsv`; a stage is the sum of its jobs, as if one ran after the other.
    """
    times: dict[str, float] = {}
    for file in sorted(Path(folder).glob("*/*.tsv")):
        with file.open() as rows:
            seconds = sum(float(row["s"]) for row in csv.DictReader(rows, delimiter="\t"))
        times[file.stem] = seconds
        times[file.parent.name] = times.get(file.parent.name, 0.0) + seconds
    return times


def summary_text(
    results: str,
    times: dict[str, float],
    substrates: Substrates,
    acquisition: Acquisition,
    inputs: int,
    reconstruction: Reconstruction,
    model: ShapeModel,
    truth: Substrates | None,
    synthesis: Synthesis,
) -> str:
    """At most 24 lines of 100 columns; `times` from `stage_times`, `results` the run's folder.

    `inputs` counts the shapes of the run's own.

    `truth` is a table of the one shape that was reconstructed, if it is known.
    """
    numbers = {
        "mesh": _mesh(substrates)
        + [f"{inputs} inputs: {results}/inputs.csv, .html"] * bool(inputs),
        "simulate": _simulate(len(substrates), len(acquisition), times),
        "reconstruct": _reconstruct(reconstruction, model, truth),
        "synthesise": _synthesise(synthesis),
    }
    total = sum(times.get(stage, 0.0) for stage in STAGES)
    lines = ["=" * WIDTH, f"spinmesh  {results}   jobs took {total:.0f} s in all", "-" * WIDTH]
    for stage in STAGES:
        taken = f"{times[stage]:.1f} s" if stage in times else "-"
        label = f"{stage:<12}{taken:>9}"
        for line in (*numbers[stage], f"-> {results}/{stage}/"):
            lines.append(label.ljust(MARGIN) + line)
            label = ""
    lines += ["-" * WIDTH, f"figures: {results}/figures/", "=" * WIDTH]
    return "\n".join(line[:WIDTH].rstrip() for line in lines) + "\n"


def _mesh(substrates: Substrates) -> list[str]:
    words = f"{len(substrates)} substrates of {len(substrates.template.tets):,} tets"
    if substrates.quality is not None:
        worst = float(substrates.quality.min())
        words += f", worst tet quality {worst:.2f} (1: regular, 0: flat)"
    return [words]


def _simulate(count: int, measurements: int, times: dict[str, float]) -> list[str]:
    line = f"{count * measurements:,} signals ({count} substrates x {measurements} measurements)"
    # The stage's time also holds the target, the inputs and the figure.
    seconds = sum(t for name, t in times.items() if name.startswith("simulate_shard"))
    seconds = seconds or times.get("simulate", 0.0)
    return [line + (f", {count * measurements / seconds:,.0f} per second" if seconds else "")]


def _reconstruct(
    reconstruction: Reconstruction, model: ShapeModel, truth: Substrates | None
) -> list[str]:
    lines = []
    errors = errors_beside_mean_shape(reconstruction.mesh, model, truth)
    for name, (error, of_mean) in errors.items():
        gain = of_mean / max(error, 1e-12)
        verdict = f"better by a factor {gain:.1f}" if gain >= 1 else f"WORSE, factor {gain:.2f}"
        lines.append(
            f"{name + ' error':<13}{error:.3f} um, mean training shape {of_mean:.3f} um: {verdict}"
        )
    if not lines:
        lines.append("no truth to compare with: judge by chi2 and by the residuals in the figure")
    chi2, count = reconstruction.fit.chi2_per_measurement, len(reconstruction.fit.chi2)
    lines.append(f"chi2 per measurement {chi2:.2f} over {count} measurements (1: as the noise)")
    for doubt in credibility(reconstruction, model).warnings:
        what, _, numbers_and_remedy = doubt.partition(":")
        words = f"WARNING: {what}. {numbers_and_remedy.partition('. ')[2]}"
        lines += wrap(words, WIDTH - MARGIN)
    return lines


def _synthesise(synthesis: Synthesis) -> list[str]:
    name = "spectrum_log_error"
    return [
        f"{len(synthesis.samples)} images, radial-spectrum log error {synthesis.metrics[name]:.3f}",
        f"floor (training images) {synthesis.floor[name]:.3f}, control (white noise) "
        f"{synthesis.control[name]:.3f}",
    ]
