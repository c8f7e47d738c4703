"""What a run will take follows from what earlier runs took, and from who waits for whom."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from spinmesh.cli import app
from spinmesh.cli.plan import Line, scheduled
from spinmesh.io import save
from spinmesh.mesh import SweptDisk, sample_substrates, swept_disk

ROOT = Path(__file__).parents[1]
TINY = ROOT / "config/test/tiny.yaml"


@pytest.mark.parametrize("cores", [1, 2, 3, 7])
def test_no_schedule_beats_its_bounds_and_none_is_twice_as_long(cores: int) -> None:
    """Graham (1966): a list schedule ends before work/cores + longest path, and after either."""
    generator = torch.Generator().manual_seed(cores)
    rules = {job: f"rule {job}" for job in range(40)}
    taken = {rule: float(1 + 9 * torch.rand((), generator=generator)) for rule in rules.values()}
    pairs = torch.rand(40, 40, generator=generator) < 0.06
    edges = [(a, b) for a in rules for b in rules if a < b and bool(pairs[a, b])]
    path: dict[int, float] = {}
    for job in rules:
        path[job] = taken[rules[job]] + max((path[a] for a, b in edges if b == job), default=0.0)
    longest, work = max(path.values()), sum(taken.values()) / cores
    result = scheduled(rules, edges, taken, cores)
    assert max(longest, work) - 1e-9 <= result.seconds <= longest + work
    # The chain of jobs that the end waited for fills the whole time.
    assert sum(seconds for _, seconds in result.chain) == pytest.approx(result.seconds, rel=1e-12)


def test_a_serial_job_is_the_bottleneck_of_many_cores() -> None:
    """One job, six, one: on six cores the sum of three, on two cores three rounds in the middle."""
    rules = {0: "sample", 7: "gather", **dict.fromkeys(range(1, 7), "shard")}
    edges = [(0, k) for k in range(1, 7)] + [(k, 7) for k in range(1, 7)]
    taken = {"sample": 10.0, "shard": 4.0, "gather": 1.0}
    assert scheduled(rules, edges, taken, 6).seconds == 15.0
    two = scheduled(rules, edges, taken, 2)
    assert two.seconds == 23.0
    assert Counter(rule for rule, _ in two.chain) == {"sample": 1, "shard": 3, "gather": 1}


def test_the_longest_way_ahead_goes_first() -> None:
    """After the first job two short ones and a long one on two cores: the long one may not wait."""
    rules = {0: "first", 1: "short", 2: "short", 3: "long"}
    taken = {"first": 1.0, "short": 1.0, "long": 5.0}
    assert scheduled(rules, [(0, 1), (0, 2), (0, 3)], taken, 2).seconds == 6.0


def test_two_sizes_tell_what_an_item_takes() -> None:
    line = Line.through([100.0, 400.0, 100.0], [7.0, 13.0, 7.0])
    assert (line.start, line.slope) == pytest.approx((5.0, 0.02), rel=1e-9)
    assert Line.through([100.0, 100.0], [7.0, 8.0]).at(1e6) == 8.0
    # What shrinks with the table is noise, and is not drawn out to nothing.
    assert Line.through([100.0, 400.0], [7.0, 6.0]).at(1e6) == 7.0


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Runs of 4 and 8 substrates in two shards; a shard takes 5 s and 1 s for each of its own."""
    tmp_path = tmp_path_factory.mktemp("recorded")
    template = swept_disk(SweptDisk(rings=1, layers=3, radius_um=2.0, length_um=9.0))
    for count in (4, 8):
        folder = tmp_path / str(count)
        table = sample_substrates(template, {"straight": count}, {}, {"train": 1.0}, 0)
        save(table, folder / "mesh/substrates.zarr")
        rows = {"mesh/sample_substrates": 2, "simulate/gather_signals": 3}
        rows |= {f"simulate/simulate_shard-{k}": 5 + count // 2 for k in range(2)}
        for job, seconds in rows.items():
            (folder / "times" / job).parent.mkdir(parents=True, exist_ok=True)
            text = f"s\tmax_rss\tcpu_time\n{seconds}\t{100 * seconds}\t{seconds}\n"
            (folder / f"times/{job}.tsv").write_text(text)
    return [str(tmp_path / "4"), str(tmp_path / "8")]


DAG = """digraph snakemake_dag {
    0[label = "simulate", color = "0.44 0.6 0.85", style="rounded"];
    1[label = "gather_signals", color = "0.07 0.6 0.85", style="rounded"];
    2[label = "simulate_shard\\nshard: 0", color = "0.51 0.6 0.85", style="rounded"];
    3[label = "sample_substrates", color = "0.40 0.6 0.85", style="rounded"];
    4[label = "simulate_shard\\nshard: 1", color = "0.51 0.6 0.85", style="rounded"];
    1 -> 0
    2 -> 1
    4 -> 1
    3 -> 2
    3 -> 4
}
"""


def test_a_plan_scales_the_recorded_jobs_to_the_configuration(recorded: list[str]) -> None:
    """32 substrates: shards of 16 take 21 s; 2 + 21 + 3 s one after the other, and 3 overheads."""
    words = ["plan", str(TINY), *recorded, "--cores", "2", "--overhead", "10"]
    told = CliRunner().invoke(app, words, input=DAG)
    assert told.exit_code == 0, told.output
    assert "| simulate_shard | 2 | 0.3 | 0.01 | 2.1 |" in told.output
    assert "4 jobs" in told.output and "1 minutes on 1 nodes of 2 cores" in told.output
    assert f"Bottleneck: simulate_shard, {31 / 56:.0%} of the time" in told.output


@pytest.mark.parametrize(
    ("dag", "runs", "words"),
    [
        ("", slice(None), "no jobs in what was piped in"),
        (DAG.replace("gather_signals", "make_images"), slice(None), "recorded make_images"),
        (DAG, slice(0, 0), "Missing argument"),
    ],
    ids=["nothing piped", "job unknown", "no run"],
)
def test_a_plan_without_what_it_needs_says_so(
    recorded: list[str], dag: str, runs: slice, words: str
) -> None:
    told = CliRunner().invoke(app, ["plan", str(TINY), *recorded[runs]], input=dag)
    assert told.exit_code != 0
    assert words in f"{told.output} {told.exception}"
