"""Progress speaks often enough to be useful and no more."""

import io
import logging
import time
from collections.abc import Iterator

import pytest

from spinmesh import progress as module
from spinmesh.progress import log_to, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def steps(count: int) -> Iterator[int]:
    for number in range(count):
        time.sleep(0.002)
        yield number


class Counted(list[int]):
    """As many, with a length."""

    def __iter__(self) -> Iterator[int]:
        return steps(len(self))


@pytest.fixture(autouse=True)
def logger(monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    """The logger as a program finds it that configures no logging; a line for every step."""
    logger = logging.Logger("spinmesh")
    monkeypatch.setattr(module, "LOGGER", logger)
    monkeypatch.setattr(module, "INTERVAL", 0.0)
    monkeypatch.delenv("SPINMESH_PROGRESS", raising=False)
    return logger


def test_lines_count_estimate_and_note_and_none_comes_twice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On stderr where nobody configured logging; two loops install one handler."""
    for label in ("training", "drawing"):
        assert list(progress(Counted(range(3)), label, note=lambda: "loss 0.5")) == [0, 1, 2]
    lines = [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines[1] == "training: 2 of 3, 00:00, about 00:00 to go, loss 0.5"
    assert [line[:15] for line in lines[3:]] == [f"drawing: {n} of 3" for n in (1, 2, 3)]


def test_iterator_without_length_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    list(progress(steps(2), "files"))
    assert "files: 2, 00:00\n" in capsys.readouterr().err


def test_loop_shorter_than_the_interval_says_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "INTERVAL", 60.0)
    list(progress(range(5), "steps"))
    assert capsys.readouterr().err == ""


def test_log_file_takes_the_lines_and_stderr_stays_silent(
    capsys: pytest.CaptureFixture[str], tmp_path
) -> None:
    log_to(tmp_path / "logs" / "mesh.log")
    list(progress(Counted(range(2)), "mesh"))
    assert "mesh: 2 of 2" in (tmp_path / "logs" / "mesh.log").read_text()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("lines", [False, True])
def test_terminal_gets_a_bar_unless_it_asks_for_lines(
    monkeypatch: pytest.MonkeyPatch, lines: bool
) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    if lines:
        monkeypatch.setenv("SPINMESH_PROGRESS", "lines")
    list(progress(Counted(range(3)), "job", note=lambda: "loss 1"))
    assert ("3/3" in stream.getvalue()) != lines
    assert ("job: 3 of 3" in stream.getvalue()) == lines
    assert "loss 1" in stream.getvalue()
