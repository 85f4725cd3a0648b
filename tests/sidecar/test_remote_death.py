"""A critic on another node that dies in the middle of a run, and comes back."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from pathlib import Path

from test_openai import Remote, serving

from shm_bridge import Status
from tests.support.sidecar_process import sidecar, until, verdict

SPAWN = multiprocessing.get_context("spawn")


def listen(port: int, urls: Queue[str]) -> None:
    remote = Remote()
    with serving(remote, port) as url:
        urls.put(url)
        remote.release.wait(120)


@contextmanager
def server(port: int = 0) -> Iterator[tuple[BaseProcess, str]]:
    """A server in a process of its own, which a test may kill."""
    urls: Queue[str] = SPAWN.Queue()
    process = SPAWN.Process(target=listen, args=(port, urls), daemon=True)
    process.start()
    try:
        yield process, urls.get(timeout=60)
    finally:
        process.kill()
        process.join(10)
        urls.close()


def test_a_killed_server_costs_verdicts_not_the_sidecar(tmp_path: Path) -> None:
    """While it is dead, verdicts are FAILED and the log names the reason; the next server's are good; no restart."""
    with server() as (process, url):
        options = ("openai.retries=1", "openai.backoff_s=0.01", "openai.image_size=16", f"openai.url={url}")
        with sidecar(tmp_path, *options, engine="openai") as one:
            lane = one.lane()
            assert verdict(lane, 0).done
            process.kill()
            process.join(10)
            bad = verdict(lane, 1)
            assert (bad.valid, bad.done, bad.status) == (False, False, Status.FAILED)
            until(lambda: "ConnectError" in one.said or "ReadError" in one.said or "RemoteProtocolError" in one.said)
            with server(int(url.split(":")[2].split("/")[0])):
                good = verdict(lane, 2)
            assert good.valid and good.done and good.epoch == 1
