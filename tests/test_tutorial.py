"""The tutorial runs as it is printed, and prints what it says."""

import contextlib
import io
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

PAGE = (Path(__file__).parents[1] / "docs/tutorial.md").read_text()
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d+\.?\d*")
# A search and a training add up rounding in the order of the machine's own linear algebra.
RELATIVE = 0.05


@pytest.mark.slow
def test_the_tutorial_prints_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One namespace for all blocks; words are equal, numbers to RELATIVE."""
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    names: dict[str, object] = {}
    printed = ""
    for language, text in BLOCK.findall(PAGE):
        if language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(text, "docs/tutorial.md", "exec"), names)
            printed = out.getvalue()
        else:
            assert NUMBER.sub("#", printed) == NUMBER.sub("#", text)
            numbers = [[float(x) for x in NUMBER.findall(t)] for t in (printed, text)]
            assert numbers[0] == pytest.approx(numbers[1], rel=RELATIVE), printed
    assert {path.name for path in tmp_path.glob("*.png")} == {"axon.png", "images.png"}
