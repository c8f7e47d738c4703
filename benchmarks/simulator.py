"""The simulator against its targets, side by side: `python benchmarks/simulator.py`.

A row is a measured error, CPU seconds of one thread, and the target stated for it. The whole run
takes less than ten minutes on a quiet machine and writes simulator.csv, simulator.md and growth.png
into docs/results; `--case` and `--quick` only print, unless `--out` says where to write.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
from pathlib import Path

import torch
from simulator_cases import CASES, Settings, machine, printed, write

RESULTS = Path(__file__).parents[1] / "docs/results"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--case", choices=[*CASES], action="append", help="only this one")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help=f"folder of the table (whole run: {RESULTS})")
    return parser.parse_args()


def main() -> None:
    """Run the cases, print each row as it comes, and write the table."""
    asked = arguments()
    torch.set_num_threads(1)
    whole = not asked.case and not asked.quick
    folder = asked.out or (RESULTS if whole else None)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(asked.quick, asked.device, folder)
    print(machine())
    rows = []
    for name in asked.case or CASES:
        print(f"\n{name}: {(CASES[name].__doc__ or '').splitlines()[0]}", flush=True)
        for row in CASES[name](settings):
            rows.append(row)
            print(printed(row), flush=True)
    if folder is not None:
        write(rows, folder)


if __name__ == "__main__":
    main()
