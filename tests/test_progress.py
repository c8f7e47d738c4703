"""Progress speaks often enough to be useful and no more."""

import io
import logging

import pytest

from spinmesh import progress as module
from spinmesh.progress import log_to, progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test turns by hand."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def quiet_logger(monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    """The logger as a program finds it that configures no logging."""
    logger = logging.Logger("spinmesh")
    monkeypatch.setattr(module, "LOGGER", logger)
    return logger


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_lines_come_every_ten_seconds_with_an_estimate(clock, caplog) -> None:
    """50 steps of 1 s: lines at 10, 20, 30, 40 s and at the end, none twice."""
    caplog.set_level(logging.INFO, "spinmesh")
    for _ in progress(range(50), "training", note=lambda: "loss 0.5"):
        clock[0] += 1
    assert len(messages(caplog)) == 5
    assert messages(caplog)[0] == "training: 10 of 50, 10 s, about 40 s to go, loss 0.5"
    assert messages(caplog)[-1] == "training: 50 of 50, 50 s, loss 0.5"


def test_slow_steps_give_one_line_each(clock, caplog) -> None:
    caplog.set_level(logging.INFO, "spinmesh")
    for _ in progress(range(3), "shapes"):
        clock[0] += 60
    assert len(messages(caplog)) == 3


def test_short_loop_says_nothing(clock, caplog) -> None:
    caplog.set_level(logging.INFO, "spinmesh")
    for _ in progress(range(5), "steps"):
        clock[0] += 0.1
    assert messages(caplog) == []


def test_iterator_without_length_is_counted_without_an_estimate(clock, caplog) -> None:
    caplog.set_level(logging.INFO, "spinmesh")
    for _ in progress((i for i in range(2)), "files"):
        clock[0] += 11
    assert messages(caplog)[0] == "files: 1, 11 s"


def test_unconfigured_program_hears_each_line_once(clock, quiet_logger, monkeypatch) -> None:
    """Two loops must not install two handlers."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    for label in ("one", "two"):
        for _ in progress(range(2), label):
            clock[0] += 1
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == ["one:", "two:"]


def test_log_file_takes_the_lines_and_stderr_stays_silent(
    clock, quiet_logger, tmp_path, monkeypatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    log_to(tmp_path / "logs" / "mesh.log")
    for _ in progress(range(2), "mesh"):
        clock[0] += 1
    assert "mesh: 2 of 2, 2 s" in (tmp_path / "logs" / "mesh.log").read_text()
    assert stream.getvalue() == ""


def test_terminal_gets_a_bar_and_no_lines(clock, caplog, monkeypatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.delenv("SPINMESH_PROGRESS", raising=False)
    caplog.set_level(logging.INFO, "spinmesh")
    assert list(progress([1, 2, 3], "bar", note=lambda: "loss 1")) == [1, 2, 3]
    assert "3/3" in stream.getvalue() and "loss 1" in stream.getvalue()
    assert messages(caplog) == []


def test_environment_asks_for_lines_on_a_terminal(clock, caplog, monkeypatch) -> None:
    monkeypatch.setattr("sys.stderr", type("T", (io.StringIO,), {"isatty": lambda _: True})())
    monkeypatch.setenv("SPINMESH_PROGRESS", "lines")
    caplog.set_level(logging.INFO, "spinmesh")
    for _ in progress(range(2), "job"):
        clock[0] += 1
    assert messages(caplog) == ["job: 2 of 2, 2 s"]
