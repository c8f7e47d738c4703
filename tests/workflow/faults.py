"""What can go wrong with a run, one fault at a time, and whether the next run makes it good.

`make faults` writes docs/results/faults.md; CASES="..." tries some cases alone. A case begins with
the results of an undisturbed run, without those of the stage that is to run. After the fault: is
every store in place whole? Does the same command finish, after the remedy that the message gives?
Is every file of the results equal, byte for byte, and is nothing left over?
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import psutil
from typer.testing import CliRunner

from spinmesh.cli import app
from spinmesh.errors import StoreError
from spinmesh.io.store import check_store
from spinmesh.provenance import revision
from tests.workflow.conftest import PATIENCE, ROOT, Workspace, workspace_in

FOLDER = ROOT / "results/faults"
KILLS, SEED = 10, 17
# Every array is written and both networks train past their first checkpoint, in seconds.
VALUES = {
    "mesh.template": {"rings": 1, "layers": 4, "radius_um": 2.0, "length_um": 8.0, "order": 1},
    "mesh.families": {"straight": 4, "bend_twist": 6, "combined": 6},
    "mesh.target": {"shape": {"radius_um": 1.8, "bend": 0.1}, "refine": 1},
    "mesh.inputs": [],
    "simulate.target_basis": {"kind": "laplace", "modes": 20},
    "reconstruct.shape_model.epochs": 150,
    "reconstruct.shape_model.latent": 4,
    "synthesise.images": {"count": 16, "pixels": 16},
    "synthesise.score_model": {"width": 16, "iterations": 250, "batch": 4},
    "synthesise.samples": {"count": 4, "steps": 4},
}
STAGES = {
    "mesh": ("mesh/substrates.zarr", "mesh/target.zarr"),
    "simulate": ("simulate/signals.zarr", "simulate/target.zarr"),
    "reconstruct": ("reconstruct/reconstruction.zarr",),
    "synthesise": ("synthesise/samples.zarr",),
}
GATHERED, SHARD = "simulate/signals.zarr", "simulate/shards/0-of-2.zarr"
# Of the results: what was measured or logged, and when Snakemake saw a store.
UNEQUAL = re.compile(r"(logs|times)/|.*\.snakemake_timestamp$")


class CannotBeMadeError(Exception):
    """A fault that cannot be made on this machine."""


@dataclass
class Outcome:
    """What became of a fault; `skipped` says why it could not be tried."""

    told: str = ""
    whole: bool = False
    rerun: bool = False
    equal: bool = False
    left: int = 0
    skipped: str = ""

    @property
    def good(self) -> bool:
        return bool(self.skipped) or (self.whole and self.rerun and self.equal and not self.left)


class Lab:
    """An undisturbed run, and a workspace in which its stages are run again and disturbed."""

    def __init__(self, folder: Path) -> None:
        self.undisturbed, self.disturbed = folder / "undisturbed", folder / "disturbed"
        self.record = folder / "outcomes.json"
        parts = [(ROOT / part, self.undisturbed / part) for part in ("src", "workflow")]
        compare = ["diff", "-rq", "-x", "__pycache__", "-x", "*.egg-info"]
        same = [subprocess.run([*compare, *pair], check=False).returncode == 0 for pair in parts]
        if not all(same) or not self.record.exists():
            shutil.rmtree(folder, ignore_errors=True)
            self._run_undisturbed()
        recorded = json.loads(self.record.read_text())
        self.seconds: dict[str, float] = recorded["seconds"]
        self.spent: float = recorded["spent"]
        self.outcomes = {case: Outcome(**row) for case, row in recorded["outcomes"].items()}
        self.workspace = fresh(self.disturbed)

    def _run_undisturbed(self) -> None:
        workspace, seconds = fresh(self.undisturbed), {}
        for stage, stores in STAGES.items():
            before = children_seconds()
            done = run(workspace, *stores)
            assert done.returncode == 0, done.stdout
            seconds[stage] = children_seconds() - before
        record = {"seconds": seconds, "spent": sum(seconds.values()), "outcomes": {}}
        self.record.write_text(json.dumps(record))

    def reset(self, stage: str | None) -> None:
        """The undisturbed results, without those of a stage and of all after it."""
        later = list(STAGES)[list(STAGES).index(stage) :] if stage else []
        for name in ("results", ".snakemake"):
            shutil.rmtree(self.disturbed / name, ignore_errors=True)
            shutil.copytree(self.undisturbed / name, self.disturbed / name, dirs_exist_ok=True)
        for each in later:
            shutil.rmtree(self.workspace.results / each)

    def expected(self, stage: str | None) -> dict[str, str]:
        """What the results hold once a stage has run."""
        files = digests(self.undisturbed / "results/tiny")
        last = list(STAGES).index(stage) if stage else len(STAGES)
        wanted = list(STAGES)[: last + 1]
        return {name: d for name, d in files.items() if name.split("/")[0] in wanted}

    def note(self, case: str, outcome: Outcome) -> None:
        self.outcomes[case] = outcome
        rows = {name: asdict(each) for name, each in self.outcomes.items()}
        record = {"seconds": self.seconds, "spent": self.spent, "outcomes": rows}
        self.record.write_text(json.dumps(record, indent=1))


def children_seconds() -> float:
    """CPU seconds of all processes started here that have ended."""
    use = resource.getrusage(resource.RUSAGE_CHILDREN)
    return use.ru_utime + use.ru_stime


def fresh(root: Path) -> Workspace:
    """A copy of the sources with the small configuration."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    workspace = workspace_in(root)
    workspace.with_values(VALUES)
    return workspace


def command(workspace: Workspace, *arguments: str) -> list[str]:
    """Snakemake for stores, which come first."""
    words = [f"results/tiny/{word}" if word.endswith(".zarr") else word for word in arguments]
    return workspace.command(*words, config="config/changed.yaml")


def run(workspace: Workspace, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(workspace, *arguments), cwd=workspace.root, env=workspace.environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip


def digests(results: Path) -> dict[str, str]:
    """SHA-256 of every file of the results, by its place; a training's CPU time does not count."""
    found = {}
    for path in results.rglob("*"):
        name = path.relative_to(results).as_posix()
        if path.is_dir() or UNEQUAL.match(name):
            continue
        content = path.read_bytes()
        if path.name == "zarr.json" and b'"seconds"' in content:
            group = json.loads(content)
            for key in ("seconds", "digest"):
                group["attributes"].pop(key, None)
            content = json.dumps(group).encode()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def all_whole(results: Path) -> bool:
    """Whether every store that a job would read has the files that were written."""
    stores = [p for p in results.rglob("*.zarr") if not p.parent.name.endswith(".partial")]
    with suppress(StoreError):
        for store in stores:
            check_store(store)
        return True
    return False


# Faults. Each yields what was said or hit; on leaving it is undone.
Fault = Callable[[Lab, tuple[str, ...]], AbstractContextManager[str]]


@contextmanager
def started(lab: Lab, *arguments: str) -> Iterator[psutil.Popen]:
    """A run in the background, in a session of its own, which ends with this block."""
    with (lab.disturbed / "output.txt").open("w") as log:
        process = psutil.Popen(
            command(lab.workspace, *arguments), cwd=lab.disturbed, env=lab.workspace.environment,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        yield process
        process.wait(PATIENCE)


def jobs(process: psutil.Popen) -> dict[str, psutil.Process]:
    """The jobs of a run that are at work, by their rules."""
    found = {}
    with suppress(psutil.NoSuchProcess):
        for child in process.children(recursive=True):
            with suppress(psutil.NoSuchProcess, ValueError):
                # Not the shell that has started it.
                program, *arguments = child.cmdline()
                name = re.search(r"/scripts/\w+\.(\w+)\.py$", " ".join(arguments))
                if name and "python" in program:
                    found.setdefault(name[1], child)
    return found


def cpu_seconds(process: psutil.Popen) -> float:
    """Of a run and of all its jobs, ended or not."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += sum(each.cpu_times()[:4])
    return total


def wait_until(ready: Callable[[], object], process: psutil.Popen, pause: float = 0.002) -> bool:
    """Whether it came before the run ended."""
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        if ready():
            return True
        time.sleep(pause)
    return False


@contextmanager
def killed(
    when: Callable[[Lab, psutil.Popen], Callable[[], object]], lab: Lab, stores: tuple[str, ...]
) -> Iterator[str]:
    """SIGKILL for the run and all its jobs at once; what was at work then."""
    with started(lab, *stores) as process:
        came = wait_until(when(lab, process), process)
        at_work = sorted(jobs(process))
        if came:
            os.killpg(process.pid, signal.SIGKILL)
    files = {path.suffix for path in lab.workspace.results.rglob("*")}
    state = " while it wrote" * (".partial" in files) + " with a checkpoint" * (
        ".checkpoint" in files
    )
    unlock(lab)
    yield " and ".join(at_work or ["Snakemake alone"]) + state if came else "it had finished"


def unlock(lab: Lab) -> None:
    """As `snakemake --unlock`, which is tried once."""
    shutil.rmtree(lab.disturbed / ".snakemake/locks", ignore_errors=True)


def after_a_part(stage: str, number: int, lab: Lab, process: psutil.Popen) -> Callable[[], bool]:
    """At a random part of the CPU time that the stage takes."""
    part = random.Random(f"{SEED} {stage} {number}").uniform(0.05, 0.95)
    return lambda: cpu_seconds(process) > part * lab.seconds[stage]


def at_a_write(lab: Lab, process: psutil.Popen) -> Callable[[], object]:
    """As soon as a store is begun."""
    return lambda: (
        list(lab.workspace.results.glob("*/.*.partial/*.zarr"))
        or list(lab.workspace.results.glob("*/*/.*.partial/*.zarr"))
    )


def at_a_checkpoint(lab: Lab, process: psutil.Popen) -> Callable[[], object]:
    return lambda: list(lab.workspace.results.glob("*/*.checkpoint"))


@contextmanager
def orphaned(name: str, lab: Lab, stores: tuple[str, ...]) -> Iterator[str]:
    """Snakemake alone is killed; its job goes on, beside the next run."""
    with started(lab, *stores) as process:
        logs = lab.workspace.results / f"logs/{name}.log"
        logs.unlink(missing_ok=True)
        assert wait_until(logs.exists, process)
        job = jobs(process)[name.partition("-")[0]]
        process.kill()
    unlock(lab)
    yield f"{name} went on" if job.is_running() else "its job had ended"
    with suppress(psutil.NoSuchProcess):
        job.wait(PATIENCE)


@contextmanager
def run_twice(options: tuple[str, ...], lab: Lab, stores: tuple[str, ...]) -> Iterator[str]:
    """A second run is started as soon as the first has a job at work."""
    with started(lab, *stores) as process:
        assert wait_until(lambda: jobs(process), process)
        second = run(lab.workspace, *stores, *options)
    told = [f"first: {how_ended(process.returncode, (lab.disturbed / 'output.txt').read_text())}"]
    yield "; ".join([*told, f"second: {how_ended(second.returncode, second.stdout)}"])


def how_ended(status: int, output: str) -> str:
    return "ended well" if status == 0 else line_with(output, "cannot be locked", "Error")


@contextmanager
def job_killed(name: str, lab: Lab, stores: tuple[str, ...]) -> Iterator[str]:
    """As the kernel does for lack of memory; the run tries it again by itself."""
    with started(lab, *stores, "--retries", "1") as process:
        assert wait_until(lambda: name in jobs(process), process)
        time.sleep(1)
        jobs(process)[name].kill()
    output = (lab.disturbed / "output.txt").read_text()
    assert "Trying to restart job" in output, output
    yield f"{name} tried again by the same run, which ended with {process.returncode}"


@contextmanager
def out_of_memory(name: str, lab: Lab, stores: tuple[str, ...]) -> Iterator[str]:
    """Once it has begun its work a job gets no more address space."""
    with started(lab, *stores) as process:
        assert wait_until(at_a_checkpoint(lab, process), process)
        job = jobs(process)[name]
        job.rlimit(psutil.RLIMIT_AS, (job.memory_info().vms,) * 2)
    output = (lab.disturbed / "output.txt").read_text()
    assert process.returncode != 0, "it had memory enough"
    yield line_with(output, "(log:")


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    """A disk of its own at a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(words, check=False).returncode != 0:
        raise CannotBeMadeError("a disk of its own cannot be mounted here; root can")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


@contextmanager
def without_room(bad: str, good: str, lab: Lab, stores: tuple[str, ...]) -> Iterator[str]:
    """The stage's folder is a disk that is full, or protected; then that is put right."""
    folder = lab.workspace.results / stores[0].split("/")[0]
    with mounted(folder, "64k"):
        remount(folder, bad)
        done = run(lab.workspace, *stores)
        assert done.returncode != 0, "there was room"
        remount(folder, good)
        yield line_with(done.stdout, "cannot be written", "No space", "Read-only")


@contextmanager
def disk_full(lab: Lab, stores: tuple[str, ...]) -> Iterator[str]:
    """The disk of all results, logs among them."""
    with mounted(lab.workspace.results.parent, "64m"):
        filler = lab.workspace.results.parent / "filler"
        lab.reset(stores[0].split("/")[0])
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(2**14))
        done = run(lab.workspace, *stores)
        assert done.returncode != 0, "there was room"
        filler.unlink()
        yield line_with(done.stdout, "cannot be written", "No space")


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def flipped(file: Path) -> None:
    """One bit is another."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@contextmanager
def damaged(
    name: str, damage: Callable[[Path], object], store: str, lab: Lab, stores: tuple[str, ...]
) -> Iterator[str]:
    """A store's file is damaged and a reader has to run; then `spinmesh repair`."""
    files = [p for p in (lab.workspace.results / store).glob(name) if p.is_file()]
    damage(random.Random(SEED).choice(sorted(files)))
    done = run(lab.workspace, *stores)
    assert done.returncode != 0, "it was read"
    yield repaired(lab, line_with(done.stdout, "StoreError"))


@contextmanager
def damaged_at_the_end(lab: Lab, stores: tuple[str, ...]) -> Iterator[str]:
    """A store that nothing has to read: `spinmesh repair` finds it."""
    files = [p for p in (lab.workspace.results / GATHERED).glob("signal/c/**/*") if p.is_file()]
    flipped(min(files))
    yield repaired(lab, "")


def repaired(lab: Lab, told: str) -> str:
    """What was told, and what `spinmesh repair` then says."""
    done = CliRunner().invoke(app, ["repair", str(lab.workspace.results)])
    assert done.exit_code == 0, done.output
    lines = done.output.replace(f"{lab.workspace.results}/", "").splitlines()
    return "; repair: ".join(filter(None, [told, *lines[:-1]]))


@contextmanager
def stale_lock(lab: Lab, stores: tuple[str, ...]) -> Iterator[str]:
    """A lock of a run that is gone; `--unlock` takes it away."""
    locks = lab.disturbed / ".snakemake/locks"
    locks.mkdir(parents=True, exist_ok=True)
    (locks / "0.output.lock").write_text(f"results/tiny/{stores[0]}\n")
    done = run(lab.workspace, *stores)
    assert done.returncode != 0
    assert run(lab.workspace, *stores, "--unlock").returncode == 0
    yield line_with(done.stdout, "cannot be locked")


@contextmanager
def clock_behind(store: str, lab: Lab, stores: tuple[str, ...]) -> Iterator[str]:
    """The node that wrote a store was a day behind: Snakemake makes it again, once."""
    shift(lab.workspace.results / store, -24.0)
    again = []
    for _ in range(2):
        done = run(lab.workspace, *stores)
        assert done.returncode == 0, done.stdout
        again.append(len(re.findall(r"^Finished jobid", done.stdout, re.M)))
    yield f"{again[0]} jobs in the next run, {again[1]} in the one after"


@contextmanager
def clock_ahead(store: str, lab: Lab, stores: tuple[str, ...]) -> Iterator[str]:
    """The node that wrote a store was an hour ahead: Snakemake refuses what is older than it."""
    shift(lab.workspace.results / store, 1.0)
    done = run(lab.workspace, *stores)
    assert done.returncode != 0
    # Of a folder Snakemake takes the time of this file.
    (lab.workspace.results / store / ".snakemake_timestamp").touch()
    told = re.search("This could indicate a clock skew problem[^.]*", done.stdout)
    yield f"Snakemake: {told[0]}" if told else "**nothing**"


def shift(folder: Path, hours: float) -> None:
    for path in folder.rglob("*"):
        moved = path.stat().st_mtime + 3600 * hours
        os.utime(path, (moved, moved))


def line_with(output: str, *words: str) -> str:
    """The first line of an output with the first of these words that it has, at best of ours."""
    having = [line.strip() for word in words for line in output.splitlines() if word in line]
    lines = iter([line for line in having if re.match(r"(Machine|Store)Error: ", line)] or having)
    line = next(lines, "**nothing**").replace("results/tiny/", "").replace("|", "/")
    return line.partition(" (log:")[0]


def cases() -> dict[str, tuple[str, str | None, tuple[str, ...], Fault]]:
    """By name: the fault in words, the stage that is to run (None: it has run), stores, fault."""
    table: dict[str, tuple[str, str | None, tuple[str, ...], Fault]] = {}
    for stage, stores in STAGES.items():
        for number in range(1, KILLS + 1):
            when = partial(after_a_part, stage, number)
            fault = partial(killed, when)
            table[f"kill-{stage}-{number}"] = (f"`{stage}` killed", stage, stores, fault)
        words = f"`{stage}` killed as it writes its first store"
        table[f"kill-write-{stage}"] = (words, stage, stores, partial(killed, at_a_write))
    signals, drawn, found = STAGES["simulate"], STAGES["synthesise"], STAGES["reconstruct"]
    for stage in ("reconstruct", "synthesise"):
        words = f"`{stage}` killed in training, at a checkpoint"
        fault = partial(killed, at_a_checkpoint)
        table[f"kill-training-{stage}"] = (words, stage, STAGES[stage], fault)
    of_shard = "of a shard's signals, read by the gather"
    chunk, no_gather = "signal/c/**/*", "gather"
    table |= {
        "orphan-job": ("Snakemake alone killed, and started again beside its job", "simulate",
            signals, partial(orphaned, "simulate_shard-0")),
        "orphan-training": ("the same with a training", "synthesise", drawn,
            partial(orphaned, "train_score_model")),
        "two-runs": ("two runs in one folder", "simulate", signals, partial(run_twice, ())),
        "two-runs-nolock": ("two runs, the second with `--nolock`", "simulate", signals,
            partial(run_twice, ("--nolock",))),
        "disk-full": ("the disk is full: results", "simulate", signals, disk_full),
        "disk-full-store": ("the disk of a stage's stores is full", "simulate", signals,
            partial(without_room, "size=64k", "size=64m")),
        "disk-full-training": ("the same in a training", "synthesise", drawn,
            partial(without_room, "size=64k", "size=64m")),
        "read-only": ("the stage's folder is read-only", "reconstruct", found,
            partial(without_room, "ro", "rw,size=64m")),
        "chunk-truncated": (f"a chunk {of_shard}, is truncated", no_gather, signals,
            partial(damaged, chunk, truncated, SHARD)),
        "chunk-deleted": (f"a chunk {of_shard}, is deleted", no_gather, signals,
            partial(damaged, chunk, Path.unlink, SHARD)),
        "chunk-flipped": (f"one bit of a chunk {of_shard}, is flipped", no_gather, signals,
            partial(damaged, chunk, flipped, SHARD)),
        "group-truncated": ("the `zarr.json` of a shard is truncated", no_gather, signals,
            partial(damaged, "zarr.json", truncated, SHARD)),
        "end-flipped": ("one bit of a finished store is flipped", None, signals,
            damaged_at_the_end),
        "stale-lock": ("the lock of a run that is gone", "simulate", signals, stale_lock),
        "clock-ahead": ("the node that wrote the shapes was an hour ahead", "simulate", signals,
            partial(clock_ahead, "mesh/substrates.zarr")),
        "clock-behind": ("the node that wrote a shard was a day behind", None, signals,
            partial(clock_behind, SHARD)),
        "job-killed": ("one job killed from outside (lack of memory)", "simulate", signals,
            partial(job_killed, "simulate_target")),
        "memory": ("a job is refused memory (RLIMIT_AS)", "synthesise", drawn,
            partial(out_of_memory, "train_score_model")),
    }  # fmt: skip
    return table


def tried(lab: Lab, stage: str | None, stores: tuple[str, ...], fault: Fault) -> Outcome:
    """One fault, and the run after it."""
    if stage == "gather":
        lab.reset("reconstruct")
        stage = "simulate"
        shutil.rmtree(lab.workspace.results / GATHERED)
    else:
        lab.reset(stage)
    try:
        with fault(lab, stores) as told:
            whole = all_whole(lab.workspace.results)
            done = run(lab.workspace, *stores)
            files, expected = digests(lab.workspace.results), lab.expected(stage)
    except CannotBeMadeError as reason:
        return Outcome(skipped=str(reason))
    except AssertionError as error:
        return Outcome(told=f"**{error}**")
    if done.returncode != 0:
        print(done.stdout)
    equal = {name: files.get(name) for name in expected} == expected
    own = [p for n in ("locks", "incomplete") for p in (lab.disturbed / ".snakemake" / n).glob("*")]
    return Outcome(
        told, whole, done.returncode == 0, equal, len(files.keys() - expected) + len(own)
    )


PAGE = """# Faults

`make faults`, {date}, commit {commit}, {seconds:.0f} CPU s: a small run of the four stages
({stores} stores), one fault at a time. After each:

- *whole*: every store in place has the files that were written, so nothing half-written is read;
- *finishes*: the same command ends well, after the remedy that the message gives (`make unlock`,
  `make repair`, room on the disk);
- *equal*: every file of every store, and the mesh that was found, is the undisturbed one's byte for
  byte (but for the CPU seconds that a training notes);
- *left over*: files that the undisturbed run has not, locks, and marks of unfinished jobs.

| fault | what was hit, or said | whole | finishes | equal | left over |
| --- | --- | --- | --- | --- | --- |
{rows}

A kill is SIGKILL for Snakemake and all its jobs at once, at a random part (seed {seed}) of the CPU
time that the stage takes. Of a node lost under Slurm: `make test-hpc`, and
[its result](../cluster.md#tried).
"""


def page(lab: Lab) -> str:
    """The table; kills of one stage share a row."""
    rows: dict[str, list[Outcome]] = {}
    for case, (words, *_) in cases().items():
        if case in lab.outcomes:
            rows.setdefault(words, []).append(lab.outcomes[case])
    return PAGE.format(
        date=time.strftime("%Y-%m-%d"), commit=revision(), seconds=lab.spent, seed=SEED,
        stores=len([name for name in lab.expected(None) if name.endswith(".zarr/zarr.json")]),
        rows="\n".join(row(fault, outcomes) for fault, outcomes in rows.items()),
    )  # fmt: skip


def row(fault: str, outcomes: list[Outcome]) -> str:
    """In Markdown; what must not be is bold."""
    if outcomes[0].skipped:
        return f"| {fault} | skipped: {outcomes[0].skipped} | | | | |"
    count = len(outcomes)
    told = [outcome.told for outcome in outcomes]
    hits = "; ".join(f"{words} ({told.count(words)})" for words in sorted(set(told)))
    verdicts = []
    for name in ("whole", "rerun", "equal"):
        good = sum(getattr(outcome, name) for outcome in outcomes)
        text = ("yes" if good else "no") if count == 1 else f"{good} of {count}"
        verdicts.append(text if good == count else f"**{text}**")
    left = sum(outcome.left for outcome in outcomes)
    fault += f" at {count} random moments" if count > 1 else ""
    hits = hits if count > 1 else told[0]
    return f"| {fault} | {hits} | {' | '.join(verdicts)} | {f'**{left}**' if left else 'nothing'} |"


def main(table: Path, chosen: list[str]) -> None:
    """Try the chosen cases, or all that have no outcome yet; exit code 1 if one is not survived."""
    lab, known = Lab(FOLDER), cases()
    for case in chosen or [case for case in known if case not in lab.outcomes]:
        _, stage, stores, fault = known[case]
        before = children_seconds()
        outcome = tried(lab, stage, stores, fault)
        lab.spent += children_seconds() - before
        lab.note(case, outcome)
        print(f"{case}: {'good' if outcome.good else 'BAD'} {outcome}", flush=True)
    table.write_text(page(lab))
    sys.exit(0 if all(outcome.good for outcome in lab.outcomes.values()) else 1)


if __name__ == "__main__":
    # As `make` does; compiled anew, every job would take twice as long.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    main(Path(sys.argv[1]), sys.argv[2:])
