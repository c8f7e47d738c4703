"""Scores of reconstructions as csv tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from experiments.remidi.estimates import Score
from spinmesh.io.tables import write_rows


def write_scores(scores: Sequence[Score], path: str | Path) -> None:
    """A table of scores: lengths in um, seconds of CPU."""
    write_rows([asdict(score) for score in scores], path)


def read_scores(path: str | Path) -> list[Score]:
    """The table that `write_scores` wrote."""
    table = pd.read_csv(path, dtype={"label": str})
    return [Score(**{str(k): v for k, v in row.items()}) for row in table.to_dict("records")]
