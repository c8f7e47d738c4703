"""`snakemake --logger spinmesh`: one screen while a run is at work, plain lines without a terminal.

Snakemake finds logger plugins by the name of their package. Its whole log goes to the file that it
writes anyway; the screen names it.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from rich.console import Console
from rich.live import Live
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_spinmesh.jobs import Job, Run, clock
from snakemake_logger_plugin_spinmesh.screen import drawn

# What Snakemake says of a failed job; here the end of the job's log is shown.
SAID_OTHERWISE = re.compile(
    r"(RuleException:\nCalledProcessError|Exiting because|(WorkflowError:\n)?At least one job did)"
)
NOTHING = "Nothing to be done"
AGAIN = "What to do: start the same command again; what is finished stays."
REFUSED = "What to do: change that input as the message says, then start the same command again."


class LogHandler(LogHandlerBase):
    """Snakemake's events as a screen that is drawn again and again, or as lines."""

    # Snakemake writes its log by itself; its filter knows --quiet, its formatter is for dry runs.
    writes_to_stream = True
    writes_to_file = has_filter = has_formatter = False
    needs_rulegraph = False

    def __post_init__(self) -> None:
        self.stream = sys.stdout if self.common_settings.stdout else sys.stderr
        self.console = Console(file=self.stream, highlight=False, markup=False)
        self.run, self.log = Run(), ""
        self.live: Live | None = None
        self.stopped = False
        self._note_ctrl_c()
        self.terminal: dict[int, int] = {}
        self.taken: dict[object, Callable[[logging.LogRecord], None]] = {
            LogEvent.WORKFLOW_STARTED: self._workflow_started,
            LogEvent.RUN_INFO: self._run_info,
            LogEvent.JOB_INFO: self._job_info,
            LogEvent.JOB_FINISHED: self._job_finished,
            LogEvent.JOB_ERROR: self._job_error,
        }

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record of Snakemake; a dry run is shown as Snakemake does."""
        try:
            if self.common_settings.dryrun:
                self.console.print(self.format(record), soft_wrap=True)
            else:
                self.taken.get(getattr(record, "event", None), self._other)(record)
        except Exception:  # as every handler of logging does: the run goes on
            self.handleError(record)

    def close(self) -> None:
        """Take the screen away and say how the run ended."""
        self._restore()
        for job in self.run.failed.values():
            lines, refused = job.last_lines()
            self._say(f"\n{job.name} FAILED. The end of {', '.join(job.logs) or 'its log'}:")
            ends = lines or job.reason.splitlines() or ["(nothing was written)"]
            self._say("\n".join(f"    {line}" for line in ends))
            self._say(REFUSED if refused else AGAIN)
        if self.run.planned:
            done, total = self.run.count()
            passed = clock(self.run.passed)
            self._say(
                ("stopped: " if self.stopped else "")
                + f"{done} of {total} jobs in {passed}"
                + (f"; the whole log: {self.log}" if self.log else "")
            )
            self.run = Run()
        super().close()

    def _workflow_started(self, record: logging.LogRecord) -> None:
        handlers = logging.getLogger("snakemake.logging").handlers
        files = (h.baseFilename for h in handlers if isinstance(h, logging.FileHandler))
        self.log = os.path.relpath(next(files, os.devnull))
        self._say(f"planning the jobs; the whole log: {self.log}")

    def _run_info(self, record: logging.LogRecord) -> None:
        self.run.plan(getattr(record, "stats", {}))
        # Not rich's `is_terminal`, which FORCE_COLOR turns on for files too.
        if self.stream.isatty() and not self.console.is_dumb_terminal and self.live is None:
            self._cover()

    def _job_info(self, record: logging.LogRecord) -> None:
        fields = vars(record)
        job = Job(fields["rule_name"], list(map(str, fields["wildcards"].values())), fields["log"])
        self.run.running[fields["jobid"]] = job
        if self.live is None and self.run.counts(job):
            self._say(f"{job.name} started" + "".join(f"; its log: {log}" for log in job.logs))

    def _job_finished(self, record: logging.LogRecord) -> None:
        job = self.run.finish(vars(record)["job_id"])
        if job is None:
            return
        for warning in job.warnings():
            self._say(f"{job.name}: {warning}")
        if self.live is None:
            done, total = self.run.count()
            self._say(f"{job.name} took {clock(job.passed)}; {done} of {total}{self.run.to_go()}")

    def _job_error(self, record: logging.LogRecord) -> None:
        fields = vars(record)
        job = self.run.running.pop(fields["jobid"], Job(fields["rule_name"], (), fields["log"]))
        # Of a job that no cluster took there is no log.
        job.reason = fields.get("rule_msg") or ""
        if self.stopped:
            self._say(f"{job.name} stopped after {clock(job.passed)}")
        else:
            self.run.failed[fields["jobid"]] = job
            self._say(f"{job.name} FAILED after {clock(job.passed)}")

    def _note_ctrl_c(self) -> None:
        """What ends after Ctrl-C, which all jobs get too, has not failed."""
        before = signal.getsignal(signal.SIGINT)

        def note(number: int, frame: FrameType | None) -> None:
            self.stopped = True
            signal.signal(signal.SIGINT, before)
            signal.raise_signal(signal.SIGINT)

        if callable(before):  # it is not in the background, where Ctrl-C does nothing
            with suppress(ValueError):  # only the main thread may
                signal.signal(signal.SIGINT, note)

    def _other(self, record: logging.LogRecord) -> None:
        if stages := getattr(record, "stages", None):
            self.run.stages = stages
            self.run.remember(vars(record)["times"], vars(record)["reference"])
        text = self.format(record)
        loud = record.levelno >= logging.WARNING or text.startswith(NOTHING)
        if loud and text.strip() and not SAID_OTHERWISE.match(text):
            self._say(text.rstrip())

    def _say(self, text: str) -> None:
        """A line that stays, above the screen if there is one."""
        self.console.print(text, soft_wrap=not self.console.is_terminal)

    def _cover(self) -> None:
        """Draw the screen. What jobs write to the terminal, which would tear it, joins the log."""
        self.stream.flush()
        streams = [stream for stream in (sys.stdout, sys.stderr) if stream.isatty()]
        with open(self.log, "a") as log:
            for number in (stream.fileno() for stream in streams):
                self.terminal[number] = os.dup(number)
                os.dup2(log.fileno(), number)
        self.console.file = open(self.terminal[self.stream.fileno()], "w", closefd=False)  # noqa: SIM115
        self.live = Live(
            get_renderable=lambda: drawn(self.run, self.log),
            console=self.console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=sys.stdout in streams,
        )
        self.live.start()
        # A killed run must not leave a terminal without its cursor.
        self.console.show_cursor(True)

    def _restore(self) -> None:
        if self.live is None:
            return
        self.live.stop()
        self.live, self.console.file = None, self.stream
        for number, copy in self.terminal.items():
            os.dup2(copy, number)
            os.close(copy)
        self.terminal.clear()
