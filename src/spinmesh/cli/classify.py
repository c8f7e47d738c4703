"""`spinmesh classify`: what a trained model makes of recordings of a chest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spinmesh.cli import measured


def classify(
    files: Annotated[list[Path], typer.Argument(help="Wav files, each of one chest.")],
    model: Annotated[Path, typer.Option(help="Store of a sound model, of make respiratory.")],
    out: Annotated[Path | None, typer.Option(help="Table of the probabilities (.csv).")] = None,
    force: measured.Force = False,
) -> None:
    """Probability of every class for each recording: the mean over its windows.

    A sound that is clipped, or whose rate is not what its file says, is answered with a warning;
    one that is silent or too short is refused, and then none is answered.
    """
    if out is not None:
        measured.refuse_existing(out, force)
    from spinmesh.estimators.ensemble import SoundModel
    from spinmesh.estimators.lung_sounds import window_examples
    from spinmesh.io import load
    from spinmesh.io.sounds import read_wav
    from spinmesh.io.tables import write_rows
    from spinmesh.sounds import refuse_unusable

    trained = load(SoundModel, model)
    for file in files:
        refuse_unusable(read_wav(file), trained.features.seconds)
    rows = []
    for file in files:
        windows = window_examples([read_wav(file)], trained.features)
        answers = trained.probabilities(windows).mean(0).tolist()
        probability = dict(zip(trained.names.classes, answers, strict=True))
        rows.append({"file": str(file), **probability})
        likeliest = sorted(probability, key=probability.__getitem__, reverse=True)
        typer.echo(f"{file}: " + ", ".join(f"{name} {probability[name]:.3f}" for name in likeliest))
    if out is not None:
        write_rows(rows, out)
