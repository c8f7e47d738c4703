"""Issue 13, point 18: a small slice of `make fuzz`."""

from pathlib import Path

import pytest
from inputs.fuzz import fuzz, readers

# Not fewer than find the failures of 700aac8; `make fuzz` runs 2,000.
FEW = 15


@pytest.mark.filterwarnings("ignore")
def test_mutated_inputs_are_read_or_refused(tmp_path: Path) -> None:
    for reader in readers(tmp_path):
        row = fuzz(reader, tmp_path, FEW, 5.0)
        wrong = {key: row[key] for key in ("failed", "NaN", "slow", "large")}
        assert not any(wrong.values()), (reader.name, wrong, row["reasons"])
        assert row["read"] + row["refused"] > 0
