"""The commands dashboard, label and report."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest


@pytest.fixture
def judged(cli: Any) -> Any:
    """A store with one board."""
    cli.done(
        "evaluate", "winrate", "--prompts", cli.prompts(40), "--model", "a=mock:writer", "--baseline", "mock:echo",
        "--judge-model", "mock:judge", "-q",
    )  # fmt: skip
    return cli


def test_a_report_is_written_and_the_next_command_named(judged: Any) -> None:
    shown = judged.done("report")
    page = Path("report.html").read_text("utf-8")
    assert "report.html" in shown.out
    assert "next:    rlhf-eval dashboard" in shown.out
    board = judged.done("leaderboard").out
    rate = re.search(r"(\d+\.\d %)", board)
    assert rate is not None
    assert rate[1] in page


@pytest.mark.parametrize(("form", "file", "mark"), [("md", "report.md", "| a |"), ("latex", "report.tex", r"\toprule")])
def test_tables_for_papers_are_those_of_the_leaderboard(judged: Any, form: str, file: str, mark: str) -> None:
    judged.done("report", "--format", form)
    text = Path(file).read_text("utf-8")
    assert mark in text
    assert judged.done("leaderboard", "--format", form).out.strip() in text
    assert "judge card" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("report", "--judge", "nobody"), "no judge is called 'nobody'"),
        (("leaderboard", "--rank", "--judge", "nobody"), "no judge is called 'nobody'"),
        (("report", "--baseline", "nobody"), "no judgment compares a model with 'nobody'"),
        (("report", "-o", "no/such/folder.html"), "no/such/folder.html: the report cannot be written"),
        (("dashboard", "--run", "zzzz"), "no run 'zzzz'"),
        (("dashboard", "--port", "99999"), "99999"),
    ],
)
def test_mistakes_are_one_line(judged: Any, words: tuple[str, ...], said: str) -> None:
    result = judged(*words)
    assert result.code == 2
    assert said in result.err
    assert len(result.err.splitlines()) == 1


def test_a_taken_port_is_said(judged: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = judged("dashboard", "--port", str(taken.getsockname()[1]))
    assert result.code == 2
    assert "Give another --port" in result.err


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_the_dashboard_serves_this_machine_only_until_it_is_stopped(judged: Any, sent: int, code: int) -> None:
    command = [sys.executable, "-m", "rlhf_eval", "label", "--store", str(judged.path), "--run", "latest"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            line = server.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+)/label\?(\S+)", line)
            assert found is not None, line
            assert parse_qs(found[2]) == {"of": [judged.store.find("latest").title]}
            assert _healthy(int(found[1]))
            listening = _listening(int(found[1]))
            server.send_signal(sent)
            assert server.wait(30) == code
            assert not _listening(int(found[1])), "the server ends with the command"
        finally:  # whatever failed, nothing waits for a server that nobody stops
            server.terminate()
    assert listening <= {"0100007F"}, "the loopback address, as the kernel writes it"


def _healthy(port: int) -> bool:
    for _ in range(200):
        try:
            return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1).read() == b"ok")
        except OSError:
            time.sleep(0.1)
    return False


def _listening(port: int) -> set[str]:
    """The local addresses at which somebody listens to the port; nothing where the kernel does not say."""
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    rows = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and int(row[1].partition(":")[2], 16) == port}
