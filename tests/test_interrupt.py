"""Killed with SIGKILL at drawn moments, a run that is resumed ends as if nothing had happened.

``python -P tests/kill_and_resume.py FOLDER --kills 50`` does the same for as long as one likes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kill_and_resume.py")
KILLS = 12
WIDTH = 2 * 16
"""Sixteen requests in flight to the writer, and sixteen to the judge."""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_change_nothing_and_repeat_only_what_was_in_flight(tmp_path: Path) -> None:
    command = [sys.executable, "-P", str(SCRIPT), str(tmp_path), "--seed", "1", "--kills", str(KILLS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == KILLS
    assert found["rows"] == {
        "prompts": 200, "completions": 400, "judgments": 400, "pairs": 200, "demonstrations": 200, "estimates": 0,
        "outcomes": 600,
    }  # fmt: skip
    assert found["different"] == []
    assert (found["whole"]["calls"], found["whole"]["repeated"], found["whole"]["in_flight"]) == (600, 0, 0)
    assert found["whole"]["most_in_flight"] >= WIDTH
    for killed in found["killed"]:
        assert killed["calls"] == 600
        assert killed["repeated_though_kept"] == 0
        assert killed["held"] <= killed["repeated"] <= killed["in_flight"]
        assert killed["most_in_flight"] <= 4 * WIDTH  # some replies are on their way to the disk
    assert sum(killed["held"] for killed in found["killed"]) == KILLS // 2
