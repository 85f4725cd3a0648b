"""A real OpenAI-compatible server with the small critic, started for a test and stopped behind it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

START_S = 90.0


@contextmanager
def swift_server(model: Path) -> Iterator[str]:
    """``swift deploy`` on a free port; its address, ending in /v1."""
    port = free_port()
    log = model.parent / f"server-{port}.log"
    command = [
        sys.executable,
        "-m",
        "swift.cli.deploy",
        "--model",
        str(model),
        "--model_type",
        "internvl",
        "--template",
        "internvl_hf",
        "--torch_dtype",
        "float32",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--max_batch_size",
        "16",
        "--use_hf",
        "true",
        "--attn_impl",
        "sdpa",
        "--verbose",
        "false",
        "--max_logprobs",
        "20",
        "--served_model_name",
        "critic",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}/v1"
        wait_for(url, process, log)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the server lists its models; its log is shown when it does not."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/models", timeout=2, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            process_ended(process, 0.2)
    raise AssertionError(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")


def process_ended(process: subprocess.Popen[bytes], timeout: float) -> bool:
    """Waits up to ``timeout`` seconds for the end of ``process``."""
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
