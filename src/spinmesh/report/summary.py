"""The run on one screen: of each stage its time, its key numbers and where its results are."""

from __future__ import annotations

from pathlib import Path

from spinmesh.bloch_torrey import Signals
from spinmesh.images import Synthesis
from spinmesh.inversion import Reconstruction
from spinmesh.mesh import Substrates
from spinmesh.report.quality import tet_quality
from spinmesh.shapes import ShapeModel, errors_beside_mean_shape

WIDTH = 100
STAGES = ("mesh", "simulate", "reconstruct", "synthesise")
# chi2 of n measurements has mean n and standard deviation sqrt(2n); beyond so many it is no chance.
IMPLAUSIBLE = 5.0


def stage_times(folder: str | Path) -> dict[str, float]:
    """Seconds of each stage, and of each of its jobs, from `<stage>/<job>.tsv` in `folder`.

    These are Snakemake's benchmark tables (column `s`, one row per repetition). Jobs appear under
    the file's name without `.tsv`; a stage is the sum of its jobs, as if one ran after the other.
    """
    times: dict[str, float] = {}
    for file in sorted(Path(folder).glob("*/*.tsv")):
        head, *rows = file.read_text().splitlines()
        column = head.split("\t").index("s")
        seconds = sum(float(row.split("\t")[column]) for row in rows if row)
        times[file.stem] = seconds
        times[file.parent.name] = times.get(file.parent.name, 0.0) + seconds
    return times


def summary_text(
    results: str,
    times: dict[str, float],
    substrates: Substrates,
    signals: Signals,
    user_signals: Signals | None,
    reconstruction: Reconstruction,
    model: ShapeModel,
    truth: Substrates | None,
    synthesis: Synthesis,
) -> str:
    """At most 24 lines of 100 columns; `times` from `stage_times`, `results` the run's folder.

    `truth` is a table of the one shape that was reconstructed, if it is known.
    """
    numbers = {
        "mesh": _mesh(substrates),
        "simulate": _simulate(signals, user_signals, times),
        "reconstruct": _reconstruct(reconstruction, model, truth),
        "synthesise": _synthesise(synthesis),
    }
    total = sum(times.get(stage, 0.0) for stage in STAGES)
    lines = ["=" * WIDTH, f"spinmesh  {results}   jobs took {total:.0f} s in all", "-" * WIDTH]
    for stage in STAGES:
        taken = f"{times[stage]:.1f} s" if stage in times else "-"
        label = f"{stage:<12}{taken:>9}   "
        for line in (*numbers[stage], f"-> {results}/{stage}/"):
            lines.append(label + line)
            label = " " * len(label)
    lines += ["-" * WIDTH, f"figures: {results}/figures/", "=" * WIDTH]
    return "\n".join(line[:WIDTH].rstrip() for line in lines) + "\n"


def _mesh(substrates: Substrates) -> list[str]:
    worst = min(float(tet_quality(substrates.mesh(i)).min()) for i in range(len(substrates)))
    return [
        f"{len(substrates)} substrates of {len(substrates.template.tets):,} tets, "
        f"worst tet quality {worst:.2f} (1: regular, 0: flat)"
    ]


def _simulate(signals: Signals, user_signals: Signals | None, times: dict[str, float]) -> list[str]:
    count, measurements = signals.signal.shape
    line = f"{count * measurements:,} signals ({count} substrates x {measurements} measurements)"
    # The stage's time also holds the target, the user mesh and the figure.
    seconds = sum(t for name, t in times.items() if name.startswith("simulate_shard"))
    seconds = seconds or times.get("simulate", 0.0)
    lines = [line + (f", {count * measurements / seconds:,.0f} per second" if seconds else "")]
    if user_signals is not None:
        strongest = int(user_signals.acquisition.b_value.argmax())
        b = float(user_signals.acquisition.b_value[strongest])
        value = float(user_signals.attenuation[0, strongest])
        lines.append(f"user mesh: attenuation {value:.4f} at the strongest b, {b:.4g} ms/um^2")
    return lines


def _reconstruct(
    reconstruction: Reconstruction, model: ShapeModel, truth: Substrates | None
) -> list[str]:
    lines = []
    for name, (error, of_mean) in errors_beside_mean_shape(
        reconstruction.mesh, model, truth
    ).items():
        gain = of_mean / max(error, 1e-12)
        verdict = f"better by a factor {gain:.1f}" if gain >= 1 else f"WORSE, factor {gain:.2f}"
        lines.append(
            f"{name + ' error':<13}{error:.3f} um, mean training shape {of_mean:.3f} um: {verdict}"
        )
    if not lines:
        lines.append("no truth to compare with: judge by chi2 and by the residuals in the figure")
    if reconstruction.fit.determined == 0:
        lines.append("WARNING: the data determine nothing: the shape is the prior's.")
    chi2, count = reconstruction.fit.chi2_per_measurement, len(reconstruction.fit.chi2)
    lines.append(f"chi2 per measurement {chi2:.2f} over {count} measurements (1: as the noise)")
    excess = (chi2 - 1) / (2 / count) ** 0.5
    if excess > IMPLAUSIBLE:
        lines.append("WARNING: the signal is not explained. Check SNR, tissue, pose, families.")
    elif excess < -IMPLAUSIBLE and reconstruction.target.sigma > 0:
        lines.append("WARNING: less scatter than the stated noise. Raise `snr`.")
    return lines


def _synthesise(synthesis: Synthesis) -> list[str]:
    name = "spectrum_log_error"
    own, floor, control = (d[name] for d in (synthesis.metrics, synthesis.floor, synthesis.control))
    return [
        f"{len(synthesis.samples)} images, radial-spectrum log error {own:.3f}",
        f"floor (training images) {floor:.3f}, control (white noise) {control:.3f}",
    ]
