"""Write the acquisition of the experiment: `python -m experiments.remidi.make_acquisition`.

ReMiDi's shells; its directions are ours. The files are committed, and this writes the same bytes.
"""

from pathlib import Path

from config.make_acquisitions import shells, spread_directions

if __name__ == "__main__":
    steps = tuple(range(0, 10_001, 500))
    published = {duration: steps for duration in (10, 25, 50)}
    stem = Path(__file__).parent / "remidi"
    shells(stem, published, spread_directions(30, seed=30), zeros=False)
