"""Issue 14, bad input: a small slice of `make fuzz`."""

from pathlib import Path

import pytest
from inputs.broken_tissue import attempt, cases

pytest.importorskip("netgen")
# Every kind at hand is among the 200; of these, some that went wrong.
FEW = (0, 18, 35, 38, 40, 90)


@pytest.mark.slow
def test_broken_surfaces_and_skeletons_are_meshed_repaired_or_refused(tmp_path: Path) -> None:
    drawn = list(cases(max(FEW) + 1))
    for number in FEW:
        outcome, words = attempt(drawn[number], tmp_path)
        assert outcome in ("meshed", "repaired", "refused"), (drawn[number].kind, outcome, words)
        if outcome == "refused":
            assert drawn[number].file in words
