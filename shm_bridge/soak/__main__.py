"""``python -m shm_bridge.soak``: workers and sidecar are killed for minutes on end, and every answer is checked.

Every question must be answered once, and rightly, or fail with a typed error; memory and /dev/shm must stay flat; and
nothing may be left at the end.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import random
import signal
import sys
import time
from typing import Any

from shm_bridge.liveness.cleaning import clean_run
from shm_bridge.names import SHM, entries
from shm_bridge.soak import sidecar, worker

LIMIT_FILES = 2  # a lane is a segment and a semaphore
GROWTH = 1.25  # of the second half's memory over the first's
REPORT_S = 10.0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m shm_bridge.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--kill-worker-every", type=float, default=1.0, metavar="SECONDS")
    parser.add_argument("--kill-sidecar-every", type=float, default=20.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


def rss_bytes(pid: int) -> int:
    """Private memory of a process: what is shared is counted in /dev/shm."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            _, resident, shared = (int(word) for word in file.read().split()[:3])
    except (OSError, ValueError):
        return 0
    return (resident - shared) * os.sysconf("SC_PAGESIZE")


class Soak:
    """Keeps one sidecar and ``workers`` workers alive, and kills them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.run_id = f"soak-{os.getpid()}"
        self.context = multiprocessing.get_context("forkserver")  # a successor starts without importing anything
        self.context.set_forkserver_preload(["shm_bridge.soak.sidecar", "shm_bridge.soak.worker"])
        self.counts: Any = self.context.RawArray("q", options.workers * worker.COUNTERS)
        self.stopping: Any = self.context.RawValue("i", 0)
        self.dice = random.Random(options.seed)
        self.lives = [0] * options.workers
        self.workers: list[Any] = [self.start_worker(number) for number in range(options.workers)]
        self.sidecars = 0
        self.sidecar: Any = self.start_sidecar()
        self.killed = self.unexpected = 0
        self.samples: list[tuple[int, int, int]] = []  # files, bytes in /dev/shm, private bytes of the sidecar

    def start_worker(self, number: int) -> Any:
        self.lives[number] += 1
        arguments = (self.run_id, number, self.lives[number], self.counts, self.stopping)
        process = self.context.Process(target=worker.main, args=arguments, daemon=True)
        process.start()
        return process

    def start_sidecar(self) -> Any:
        self.sidecars += 1
        process = self.context.Process(target=sidecar.main, args=(self.run_id, self.sidecars), daemon=True)
        process.start()
        return process

    def total(self, counter: int) -> int:
        return sum(self.counts[number * worker.COUNTERS + counter] for number in range(self.options.workers))

    def kill_worker(self) -> None:
        number = self.dice.randrange(self.options.workers)
        self.workers[number].kill()
        self.workers[number].join(10)
        self.killed += 1
        self.workers[number] = self.start_worker(number)

    def kill_sidecar(self) -> None:
        self.sample()  # at the end of its life, where a leak would be largest
        self.sidecar.kill()
        self.sidecar.join(10)
        self.sidecar = self.start_sidecar()

    def sample(self) -> None:
        files = list(entries(self.run_id))
        size = 0
        for entry in files:
            try:
                size += os.stat(SHM / entry.file).st_size
            except FileNotFoundError:
                continue
        self.samples.append((len(files), size, rss_bytes(self.sidecar.pid)))

    def replace_the_fallen(self) -> None:
        """Nobody may end by himself: a worker's typed errors are caught within."""
        for number, process in enumerate(self.workers):
            if not process.is_alive():
                self.unexpected += 1
                self.workers[number] = self.start_worker(number)
        if not self.sidecar.is_alive():
            self.unexpected += 1
            self.sidecar = self.start_sidecar()

    def run(self) -> None:
        begin = now = time.monotonic()
        end = begin + self.options.minutes * 60
        next_worker = begin + self.options.kill_worker_every
        next_sidecar, report = begin + self.options.kill_sidecar_every, begin + REPORT_S
        while now < end:
            time.sleep(max(0.0, min(next_worker, next_sidecar, end) - now))
            now = time.monotonic()
            self.replace_the_fallen()
            if now >= next_worker:
                self.kill_worker()
                next_worker += self.options.kill_worker_every
            if now >= next_sidecar:
                self.kill_sidecar()
                next_sidecar += self.options.kill_sidecar_every
            if now >= report:
                self.sample()
                logging.info("%.0f s: %s", now - begin, self.result())
                report += REPORT_S

    def stop(self) -> None:
        """Workers first, each after its episode; then the sidecar; then what the killed last ones left."""
        self.stopping.value = 1
        for process in self.workers:
            process.join(60)
        for process in self.workers:
            if process.is_alive():
                self.unexpected += 1
                process.kill()
                process.join(10)
        self.sidecar.terminate()
        self.sidecar.join(20)
        if self.sidecar.is_alive():
            self.sidecar.kill()

    def result(self) -> dict[str, Any]:
        half = len(self.samples) // 2
        first, second = self.samples[:half] or [(0, 0, 0)], self.samples[half:] or [(0, 0, 0)]
        return {
            "asked": self.total(worker.ASKED),
            "answered": self.total(worker.ANSWERED),
            "given_up": self.total(worker.GIVEN_UP),
            "failed_typed": self.total(worker.FAILED),
            "wrong": self.total(worker.WRONG),
            "episodes": self.total(worker.EPISODES),
            "workers_killed": self.killed,
            "sidecars": self.sidecars,
            "unexpected_ends": self.unexpected,
            "files_max": max(files for files, _, _ in self.samples) if self.samples else 0,
            "shm_bytes_first_half": max(size for _, size, _ in first),
            "shm_bytes_second_half": max(size for _, size, _ in second),
            "sidecar_bytes_first_half": max(rss for _, _, rss in first),
            "sidecar_bytes_second_half": max(rss for _, _, rss in second),
        }


def faults(result: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """What must not be."""
    found = []
    if result["wrong"]:
        found.append(f"{result['wrong']} wrong verdicts")
    if result["unexpected_ends"]:
        found.append(f"{result['unexpected_ends']} processes ended by themselves or hung")
    if result["left"]:
        found.append(f"left in /dev/shm: {result['left']}")
    if not result["answered"]:
        found.append("nothing was answered")
    if result["failed_typed"]:  # a sidecar is always back long before a worker's patience is at its end
        found.append(f"{result['failed_typed']} waits ended by an error")
    lost = result["asked"] - result["answered"] - result["given_up"]
    if lost > result["workers_killed"] * worker.SPEC.question_slots:  # the killed took theirs with them
        found.append(f"{lost} questions are neither answered nor failed")
    if result["files_max"] > (options.workers + 4) * LIMIT_FILES + 8:
        found.append(f"{result['files_max']} files in /dev/shm")
    for key in ("shm_bytes", "sidecar_bytes"):
        if result[f"{key}_second_half"] > GROWTH * result[f"{key}_first_half"] > 0:
            found.append(f"{key} grows: {result[f'{key}_first_half']} to {result[f'{key}_second_half']}")
    return found


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the processes are ended and nothing is left
    soak = Soak(options)
    try:
        soak.run()
    finally:
        soak.stop()
        left = [entry.file for entry in entries(soak.run_id)]
        clean_run(soak.run_id)
    result = soak.result() | {"left": left}
    result["faults"] = faults(result, options)
    if options.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        sys.stdout.write("".join(f"{key:>26}  {value}\n" for key, value in result.items()))
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
