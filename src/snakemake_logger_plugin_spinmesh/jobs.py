"""The jobs of a run: which are at work, what their logs say, and how long the rest may take."""

from __future__ import annotations

import csv
import re
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spinmesh.progress import REFUSED

CLOCK = re.compile(r"^\d\d:\d\d:\d\d ")
TO_GO = re.compile(r"about (?:(\d+):)?(\d+):(\d\d) to go")
WARNING = re.compile(r"^\w*Warning: ")
ERROR = re.compile(r"^\w+Error: ")
# Lines of a failed job's log that are shown.
LAST = 12
# Bytes of a log that are read for its last line.
TAIL = 4096


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours if there are any: 1:05, 2:00:00."""
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass
class Job:
    """A job that was started."""

    rule: str
    wildcards: Sequence[str]
    logs: Sequence[str]
    start: float = field(default_factory=lambda: time.monotonic())
    reason: str = ""  # that Snakemake gives for its end, if any

    @property
    def name(self) -> str:
        """The rule and what tells its jobs apart."""
        return " ".join([self.rule, *self.wildcards])

    @property
    def passed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def progress(self) -> str:
        """The last line of its log, unless that is a warning; empty if there is none."""
        for file in filter(Path.is_file, map(Path, self.logs)):
            with file.open("rb") as text:
                text.seek(max(file.stat().st_size - TAIL, 0))
                lines = text.read().decode(errors="replace").splitlines()
            if lines and CLOCK.match(lines[-1]) and not WARNING.match(lines[-1][9:]):
                return lines[-1][9:]
        return ""

    def lines(self) -> list[str]:
        """All lines of its logs."""
        files = filter(Path.is_file, map(Path, self.logs))
        return [line for file in files for line in file.read_text(errors="replace").splitlines()]

    def warnings(self) -> list[str]:
        """What its log warns of."""
        said = (CLOCK.sub("", line) for line in self.lines())
        return [line for line in said if WARNING.match(line)]

    def last_lines(self) -> tuple[list[str], bool]:
        """What its log says of its end, and whether its input was refused.

        Of a refusal that is the message alone, else the last lines, where the traceback ends.
        """
        lines = self.lines()
        if not lines or not lines[-1].endswith(REFUSED):
            return lines[-LAST:], False
        starts = [n for n, line in enumerate(lines) if ERROR.match(CLOCK.sub("", line))]
        first = next((n for n in starts if CLOCK.match(lines[n])), 0)
        ends = (n for n in range(first + 1, len(lines)) if lines[n].startswith("Traceback"))
        message = lines[first : next(ends, first + 1)]
        return [CLOCK.sub("", line) for line in message], True


@dataclass
class Run:
    """All jobs of a run: planned by rule, running and failed by Snakemake's number."""

    planned: Counter[str] = field(default_factory=Counter)
    stages: Mapping[str, str] = field(default_factory=dict)
    running: dict[int, Job] = field(default_factory=dict)
    failed: dict[int, Job] = field(default_factory=dict)
    finished: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    earlier: dict[str, float] = field(default_factory=dict)
    start: float = field(default_factory=lambda: time.monotonic())

    def plan(self, counts: Mapping[str, int]) -> None:
        """Take how many jobs of each rule there are; rules without a stage only ask for files."""
        own = {rule: n for rule, n in counts.items() if rule in self.stages or not self.stages}
        self.planned = Counter({rule: n for rule, n in own.items() if rule != "total"})

    def remember(self, folder: str, reference: str) -> None:
        """Take what a job of each rule took before: the tables that Snakemake's `benchmark:` wrote.

        They lie in `folder`, results/<run>/times; for what it lacks other runs stand in, or the
        table `reference` of rules and seconds.
        """
        lines = [line for line in Path(reference).read_text().splitlines() if line[:1] != "#"]
        table = csv.DictReader(lines, delimiter="\t")
        self.earlier = {row["rule"]: float(row["s"]) for row in table}
        others = Path(folder).parents[1].glob("*/times/*/*.tsv")
        for file in (*others, *Path(folder).glob("*/*.tsv")):
            with file.open() as text:
                row = next(csv.DictReader(text, delimiter="\t"), None)
            if row:
                self.earlier[file.stem.partition("-")[0]] = float(row["s"])

    @property
    def passed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def counts(self, job: Job) -> bool:
        """Whether a job makes something, and does not only ask for files."""
        return job.rule in self.planned

    def count(self) -> tuple[int, int]:
        """Jobs that are finished, and all."""
        return self.finished.total(), self.planned.total()

    def finish(self, number: int) -> Job | None:
        """Note the end of a job, which may have failed at an earlier attempt."""
        job = self.running.pop(number, None)
        self.failed.pop(number, None)
        if job is None or not self.counts(job):
            return None
        self.finished[job.rule] += 1
        self.seconds[job.rule].append(job.passed)
        return job

    def by_stage(self) -> dict[str, tuple[int, int]]:
        """Of each stage: jobs that are finished, and all."""
        counts: dict[str, tuple[int, int]] = {}
        for rule, planned in self.planned.items():
            done, total = counts.get(stage := self.stages.get(rule, "jobs"), (0, 0))
            counts[stage] = done + self.finished[rule], total + planned
        return counts

    def expected(self, rule: str) -> float:
        """Seconds of a job: as others of its rule, else as at an earlier run, else as the mean.

        Those of an earlier run are scaled by what other jobs take now over what they took then.
        """
        known = self.seconds.get(rule)
        if not known and rule in self.earlier:
            again = [name for name in self.seconds if name in self.earlier]
            then = sum(self.earlier[name] * len(self.seconds[name]) for name in again)
            now = sum(sum(self.seconds[name]) for name in again)
            return self.earlier[rule] * (now / then if then > 0 else 1.0)
        known = known or [value for each in self.seconds.values() for value in each]
        return sum(known) / len(known) if known else 0.0

    def work(self) -> tuple[float, float]:
        """Seconds of jobs that are done, and that are to do, as far as can be told."""
        running = list(self.running.values())
        done = sum(map(sum, self.seconds.values())) + sum(job.passed for job in running)
        left = sum(
            max(self.expected(job.rule) - job.passed, seconds_to_go(job.progress()))
            for job in running
        )
        active = Counter(job.rule for job in running)
        for rule, planned in self.planned.items():
            waiting = max(planned - self.finished[rule] - active[rule], 0)
            left += waiting * self.expected(rule)
        return done, max(left, 0.0)

    def to_go(self) -> str:
        """Words on the time until the end at the pace so far; none before it can be told."""
        done, left = self.work()
        if not (self.finished or self.earlier) or left == 0:
            return ""
        # As many jobs at a time as so far, and not less than one.
        return f", about {clock(left / max(done / self.passed, 1.0))} to go"


def seconds_to_go(line: str) -> float:
    """Seconds that a line of progress says are left; 0 if it says nothing of it."""
    match = TO_GO.search(line)
    if match is None:
        return 0.0
    hours, minutes, seconds = (int(digits or 0) for digits in match.groups())
    return 3600.0 * hours + 60.0 * minutes + seconds
