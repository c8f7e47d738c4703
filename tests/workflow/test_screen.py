"""One screen while a run is at work; plain lines where there is no terminal."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_spinmesh import LogHandler
from snakemake_logger_plugin_spinmesh.jobs import Job, Run, clock
from spinmesh.progress import REFUSED
from tests.workflow.conftest import ROOT, Workspace

TARGET = "results/tiny/mesh/target.zarr"
STAGES = {"mesh_input": "mesh", "train": "learn"}


class Sent:
    """A handler without a terminal, records sent to it as Snakemake does, and what it wrote."""

    def __init__(self) -> None:
        settings: Any = SimpleNamespace(stdout=True, dryrun=False, nocolor=False)
        self.handler = LogHandler(settings, None)
        self.handler.console.file = self.text = io.StringIO()

    def __call__(self, event: LogEvent | None, message: str = "", **fields: Any) -> None:
        level = logging.ERROR if event is None and message.endswith("!") else logging.INFO
        record = logging.LogRecord("snakemake", level, "", 0, message, None, None)
        vars(record).update(fields | {"event": event})
        self.handler.emit(record)


def started(say: Sent, number: int, rule: str, log: str) -> None:
    fields = {"rule_name": rule, "jobid": number, "wildcards": {"input": "cell"}, "log": [log]}
    say(LogEvent.JOB_INFO, **fields)


def test_lines_tell_starts_ends_warnings_and_at_the_end_the_failed_jobs_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    say = Sent()
    Path("seconds.tsv").write_text("rule\ts\n")
    say(None, stages=STAGES, times="results/own/times", reference="seconds.tsv")
    say(LogEvent.RUN_INFO, "Job stats", stats={"all": 1, "mesh_input": 1, "train": 1, "total": 3})
    say(None, "Select jobs to execute...")
    started(say, 1, "mesh_input", "mesh.log")
    Path("mesh.log").write_text(
        "12:00:00 MeshWarning: a sliver was mended\n12:00:01 mesh: 1 of 2\n"
    )
    say(LogEvent.JOB_FINISHED, job_id=1)
    started(say, 2, "train", "train.log")
    Path("train.log").write_text("12:00:09 train: 7 of 9\n12:00:10 ZeroDivisionError: 1 / 0\n")
    say(LogEvent.JOB_ERROR, rule_name="train", jobid=2, log=["train.log"])
    say(None, "Exiting because a job execution failed!")
    say(None, "disk is full!")
    say.handler.close()
    lines = [re.sub(r"\b\d:\d\d\b", "T", line) for line in say.text.getvalue().splitlines()]
    assert lines == [
        "mesh_input cell started; its log: mesh.log",
        "mesh_input cell: MeshWarning: a sliver was mended",
        "mesh_input cell took T; 1 of 2, about T to go",
        "train cell started; its log: train.log",
        "train cell FAILED after T",
        "disk is full!",
        "",
        "train cell FAILED. The end of train.log:",
        "    12:00:09 train: 7 of 9",
        "    12:00:10 ZeroDivisionError: 1 / 0",
        "What to do: start the same command again; what is finished stays.",
        "1 of 2 jobs in T",
    ]


def test_of_a_refused_input_the_message_alone_is_shown(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    trace = "Traceback (most recent call last):\n  File\nspinmesh.errors.MeshError: 3 tets\n"
    log.write_text(f"12:00:00 MeshError: 3 tets\n  are flat\n{trace}12:00:01 {REFUSED}\n")
    assert Job("mesh", (), [str(log)]).last_lines() == (["MeshError: 3 tets", "  are flat"], True)


def test_what_ends_after_ctrl_c_has_not_failed() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    try:
        say = Sent()
        say(LogEvent.RUN_INFO, "Job stats", stats={"mesh_input": 1, "total": 1})
        started(say, 1, "mesh_input", "mesh.log")
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    say(LogEvent.JOB_ERROR, rule_name="mesh_input", jobid=1, log=["mesh.log"])
    say.handler.close()
    lines = re.sub(r"\b\d:\d\d\b", "T", say.text.getvalue()).splitlines()
    assert lines[1:] == ["mesh_input cell stopped after T", "stopped: 0 of 1 jobs in T"]


def test_of_a_job_that_was_not_even_started_the_reason_is_shown() -> None:
    say = Sent()
    say(LogEvent.RUN_INFO, "Job stats", stats={"train": 1, "total": 1})
    reason = "SLURM sbatch failed: CPU count per node can not be satisfied"
    say(LogEvent.JOB_ERROR, rule_name="train", jobid=2, log=["none.log"], rule_msg=reason)
    say.handler.close()
    assert f"train FAILED. The end of none.log:\n    {reason}\n" in say.text.getvalue()


def test_time_left_is_that_of_jobs_like_it_or_of_what_the_log_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three jobs took 10 s each, one at a time; of two to come one says that it takes 50 s."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    run = Run(stages=STAGES)
    run.plan({"mesh_input": 4, "train": 1, "total": 5})
    assert run.to_go() == "", "nothing is known yet"
    for number in range(3):
        run.running[number] = Job("mesh_input", (), ())
        now += 10
        run.finish(number)
    # Another of mesh_input, and a job of a rule that none has run: the mean of all.
    assert run.work() == (30.0, 20.0) and run.to_go() == ", about 0:20 to go"
    (tmp_path / "train.log").write_text("12:00:00 train: 1, 00:01, about 00:50 to go, loss 1\n")
    run.running[9] = Job("train", (), [str(tmp_path / "train.log")])
    assert run.to_go() == ", about 1:00 to go"
    for name, seconds in (("own", 120.0), ("another", 7.0)):
        (tmp_path / name / "times/learn").mkdir(parents=True)
        (tmp_path / name / "times/learn/train-1.tsv").write_text(f"s\tcpu\n{seconds}\t3\n")
    table = tmp_path / "seconds.tsv"
    table.write_text("# of the demonstration\nrule\ts\ntrain\t9\nmesh_input\t5\nplot\t4\n")
    run.remember(str(tmp_path / "own/times"), str(table))
    assert run.expected("plot") == 8.0, "no run has made one; mesh_input takes twice as long now"
    now += 5
    assert run.work() == (35.0, 245.0), "2 x 120 s at an earlier run, 5 passed, another of 10 s"
    assert run.by_stage() == {"mesh": (3, 4), "learn": (0, 1)}


@pytest.mark.parametrize(("seconds", "words"), [(-1, "0:00"), (65, "1:05"), (7199.6, "2:00:00")])
def test_a_clock_has_hours_if_there_are_any(seconds: float, words: str) -> None:
    assert clock(seconds) == words


def test_every_target_of_make_that_runs_a_workflow_shows_the_screen() -> None:
    recipes = re.findall(r"^\t@\$\((\w+)\)(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    others = [words.split()[0] for name, words in recipes if name == "SNAKEMAKE"]
    assert sorted(others) == ["--dag", "--report", "--unlock"]
    assert len([name for name, _ in recipes if name == "RUN"]) >= 7


def on_a_terminal(workspace: Workspace, *arguments: str, config: str) -> tuple[str, int]:
    """What `snakemake --logger spinmesh` draws on a terminal of 100 columns, and its exit code."""
    ours, theirs = pty.openpty()
    command = workspace.command("--logger", "spinmesh", "--", *arguments, config=config)
    environment = workspace.environment | {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    process = subprocess.Popen(
        command, cwd=workspace.root, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    drawn = b""
    while process.poll() is None:
        try:
            drawn += os.read(ours, 65536)
        except OSError:  # Linux's end of a terminal
            break
    return drawn.decode(), process.wait()


@pytest.mark.slow
def test_a_terminal_gets_a_screen_and_at_the_end_what_was_refused(
    new_workspace: Callable[[], Workspace],
) -> None:
    workspace = new_workspace()
    fold = {"mesh.target.shape": {"radius_um": 5.0, "fan_angle_deg": 90.0}}
    drawn, code = on_a_terminal(workspace, TARGET, config=workspace.with_values(fold))
    assert code == 1
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)
    assert re.search(r"mesh ━+ 0/1", plain) and "0 of 1 jobs ━" in plain
    assert re.search(r"> make_target_mesh +\d:\d\d", plain)
    log = re.search(r"the whole log: (\S+\.log)", plain)
    assert log is not None
    screen, end = plain.split("make_target_mesh FAILED. The end of results/tiny/logs/")
    assert "`fan_angle` folds it" in end and "Traceback" not in end
    assert "What to do: change that input" in end
    # The job writes its error to the terminal too, which would tear the screen.
    assert "(log: " not in screen
    assert "folds it" in (workspace.root / log[1]).read_text()
    assert drawn.rstrip().endswith(log[0]), "nothing comes after the last line"


@pytest.mark.slow
def test_lines_where_there_is_no_terminal(new_workspace: Callable[[], Workspace]) -> None:
    done = new_workspace().snakemake("--logger", "spinmesh", "--", TARGET)
    assert done.returncode == 0, done.stdout
    assert (
        "make_target_mesh started; its log: results/tiny/logs/make_target_mesh.log" in done.stdout
    )
    assert re.search(r"make_target_mesh took 0:\d\d; 1 of 1\n", done.stdout)
    assert "\x1b" not in done.stdout and "Select jobs" not in done.stdout
