"""``python -m sidecar.bench [--random small | --model DIR] [--engines direct swift ...] [--batch 1 8 64] [--json]``."""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from evo_vlac import checkpoint
from evo_vlac.engine import Answer
from evo_vlac.model import packed
from evo_vlac.model.loading import Loaded, build_runner
from evo_vlac.model_shape import ModelShape
from sidecar.bench.cases import CASES, Frames, Straightforward, work
from sidecar.bench.shapes import SHAPES, STATISTICS, build
from sidecar.config import Config, DirectConfig, MemoryConfig
from sidecar.engines.direct import DirectEngine, direct_engine, load_direct, place
from sidecar.engines.registry import load
from sidecar.errors import SidecarError

TOLERANCE = 5e-3


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    given = _parser().parse_args(arguments)
    torch.set_num_threads(given.threads)
    try:
        with torch.no_grad():
            report = Bench(given).run()
    except SidecarError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    text = json.dumps(report, indent=1) if given.json else _table(report)
    sys.stdout.write(text + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sidecar.bench", description=__doc__)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--random", choices=sorted(SHAPES), default="small", help="shape of a model of random weights")
    source.add_argument("--model", metavar="DIR", help="a checkpoint (transformers' own format) instead")
    engines = ("direct", "direct_bf16", "swift", "vllm", "straightforward")
    parser.add_argument("--engines", nargs="+", choices=engines, default=["direct", "straightforward"])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="torch.compile in the direct engine")
    parser.add_argument("--seconds", type=float, default=4.0, help="to spend on each measurement")
    parser.add_argument("--json", action="store_true")
    return parser


class Bench:
    """One measurement: a model, engines over it, cases."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.device, self.dtype = place(given.device, given.dtype)
        self.folder = tempfile.TemporaryDirectory()
        self.direct, self.shape, self.path = self._model()
        self.parameters = self.shape.parameters
        self.most_held = 0
        self.warmed: set[str] = set()
        self.frames = Frames(self.shape.image_size)

    def run(self) -> dict[str, Any]:
        """Every case, engine and batch; the peak and the phases of the same run."""
        report: dict[str, Any] = {
            "model": self.given.model or f"random {self.given.random}",
            "parameters": self.parameters,
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "peak_flops": self._peak(self.dtype),
            "results": [],
        }
        if self.device.type == "cuda":
            report["device_name"] = torch.cuda.get_device_name(self.device)
        report["phases"] = self._phases()
        for name in self.given.engines:
            engine = self._engine(name)
            peak = self._peak(torch.bfloat16) if name == "direct_bf16" else report["peak_flops"]
            for case in self.given.cases:
                for batch in self.given.batch:
                    report["results"] += self._measure(name, engine, case, batch, peak)
            if name not in ("direct", "straightforward"):
                engine.close()
                del engine
                gc.collect()
        if self.device.type == "cuda":
            report["device_gb"] = self.most_held / 1e9
        report["times"] = times_of(report["results"])
        self.folder.cleanup()
        return report

    def _model(self) -> tuple[DirectEngine, ModelShape, Path]:
        if self.given.model is not None:
            config = Config(
                run_id="bench",
                model=self.given.model,
                device=self.given.device,
                dtype=self.given.dtype,
                direct=DirectConfig(compile=self.given.compile),
            )
            found = checkpoint.inspect(self.given.model)
            return load_direct(config), ModelShape.of(found.config), found.path
        shape = SHAPES[self.given.random]
        model, processor = build(shape, self.device, self.dtype)
        path = Path(self.folder.name)
        if {"swift", "vllm", "direct_bf16"} & set(self.given.engines):
            model.save_pretrained(path, safe_serialization=True)
            processor.save_pretrained(path)
        runner = build_runner(Loaded(model, processor.tokenizer, *STATISTICS), compiled=self.given.compile)
        return direct_engine(runner, MemoryConfig()), shape, path

    def _engine(self, name: str) -> Any:
        if name == "direct":
            return self.direct
        if name == "straightforward":
            return Straightforward(self.direct.runner)
        dtype = str(self.dtype).removeprefix("torch.")
        if name == "direct_bf16":
            return load_direct(Config(run_id="bench", model=str(self.path), device=str(self.device), dtype="bfloat16"))
        return load(Config(run_id="bench", engine=name, model=str(self.path), device=str(self.device), dtype=dtype))

    def _measure(self, name: str, engine: Any, case: str, batch: int, peak: float) -> list[dict[str, Any]]:
        # warm: frames and prefix were seen before. vLLM would know the very questions then, and compute nothing.
        states = ["cold", "warm"] if isinstance(engine, DirectEngine) else ["cold"]
        return [self._one(name, engine, case, batch, state, peak) for state in states]

    def _one(self, name: str, engine: Any, case: str, batch: int, state: str, peak: float) -> dict[str, Any]:
        queries = self.frames.queries(case, batch)
        answers: list[Answer] = []
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # what another engine held is not this one's
            torch.cuda.reset_peak_memory_stats(self.device)
        remembers = hasattr(engine, "forget")
        if remembers or self.device.type == "cuda" or name not in self.warmed:  # fills caches, makes kernels ready
            answers = engine.answer(queries)
            self.warmed.add(name)
        times: list[float] = []
        cpu: list[float] = []
        end = time.monotonic() + self.given.seconds
        while not times or (time.monotonic() < end and len(times) < 200):
            if state == "cold" and remembers:
                engine.forget()
            start = time.process_time()
            times.append(_timed(lambda: answers.__setitem__(slice(None), engine.answer(queries)), self.device))
            cpu.append(time.process_time() - start)
        typical, spent = sorted(times)[len(times) // 2], sorted(cpu)[len(cpu) // 2]
        if self.device.type == "cuda" and name == "direct":
            self.most_held = max(self.most_held, torch.cuda.max_memory_reserved(self.device))
        prompt = self.direct.runner.tokens(queries[0])
        shared = queries[0].prefix_images
        prefix = prompt.ends[shared - 1] if shared else prompt.images[0]
        flops = work(self.shape, case, batch, len(prompt.ids), len(queries[0].images), prefix, state == "warm")
        done = flops.direct if remembers else flops.straightforward
        clock = typical if self.device.type == "cuda" else spent  # a busy machine takes wall time, not CPU time
        return {
            "case": case,
            "engine": name,
            "batch": batch,
            "state": state,
            "verdicts_per_s": batch / typical,
            "verdicts_per_cpu_s": batch / spent,
            "batch_ms": typical * 1e3,
            "runs": len(times),
            "flops_per_verdict": done / batch,
            "share_of_peak": done / clock / peak,
            "same_verdicts": self._same(name, queries, answers),
        }

    def _same(self, name: str, queries: Any, answers: list[Answer]) -> bool:
        """Whether the verdicts are the straightforward ones (equal text, or log-probabilities within a tie)."""
        count = min(8 if self.device.type == "cuda" else 2, len(queries))
        expected = Straightforward(self.direct.runner).answer(queries[:count])
        exact = self.dtype == torch.float32 and name != "direct_bf16"
        tolerance = TOLERANCE if exact else 0.1
        for ours, theirs in zip(answers, expected):
            if ours.error is not None or not ours.tokens:
                return False
            if abs(ours.tokens[0].logprob - theirs.tokens[0].logprob) > tolerance:
                return False
            if exact and ours.text != theirs.text:
                return False
        return True

    def _peak(self, dtype: torch.dtype) -> float:
        """Dense matrix multiplications per second here and now, in FLOP/s; on a CPU per second of CPU time, and by
        oneDNN where that is faster than torch's own (MKL is slow on other makers' processors than Intel's)."""
        size = 8192 if self.device.type == "cuda" else 1024
        a = torch.randn(size, size, device=self.device, dtype=dtype)
        ways: list[Callable[[], Any]] = [lambda: a @ a]
        if self.device.type == "cpu" and packed.works(dtype):
            ways.append(lambda: packed.product(a, a))
        rates = []
        for way in ways:
            way()
            times = []
            for _ in range(10):
                start = time.process_time()
                took = _timed(way, self.device)
                times.append(took if self.device.type == "cuda" else time.process_time() - start)
            rates.append(2 * size**3 / sorted(times)[len(times) // 2])
        return max(rates)

    def _phases(self) -> dict[str, float]:
        """UPDATE and back: what stays on the card (on a CPU no weight moves), how long until the first verdict."""
        query = self.frames.queries("done", 1)
        self.direct.answer(query)
        first = _timed(self.direct.offload, self.device)
        in_between = _timed(self.direct.restore, self.device)
        leave = _timed(self.direct.offload, self.device)
        free, total = torch.cuda.mem_get_info(self.device) if self.device.type == "cuda" else (0, 0)
        held = self.direct.memory_bytes()["device"]

        def to_first_verdict() -> None:
            self.direct.restore()
            self.direct.answer(query)

        back = _timed(to_first_verdict, self.device)
        return {
            "first_offload_s": first,
            "restore_s": in_between,
            "offload_s": leave,
            "held_in_update_gb": held / 1e9,
            "card_used_in_update_gb": (total - free) / 1e9,
            "back_to_first_verdict_s": back,
        }


def _timed(what: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    what()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def times_of(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """How many times the verdicts of every other engine the direct one gives, by case, batch and state; in CPU time
    and in wall time."""
    found = []
    for one in results:
        for other in results:
            same = all(one[key] == other[key] for key in ("case", "batch"))
            if same and one["engine"].startswith("direct") and not other["engine"].startswith("direct"):
                found.append(
                    {
                        **{key: one[key] for key in ("case", "batch", "engine", "state")},
                        "against": other["engine"],
                        "times": one["verdicts_per_s"] / other["verdicts_per_s"],
                        "times_per_cpu_s": one["verdicts_per_cpu_s"] / other["verdicts_per_cpu_s"],
                    }
                )
    return found


def _table(report: dict[str, Any]) -> str:
    head = (
        f"{report['model']}: {report['parameters'] / 1e6:.1f} M parameters, {report['device']} {report['dtype']}, "
        f"{report['threads']} thread(s); measured matmul peak {report['peak_flops'] / 1e12:.2f} TFLOP/s"
    )
    title = f"{'case':22}{'engine':17}{'batch':>6} {'state':6}{'per s':>12}{'/cpu s':>9}{'ms':>10}{'peak':>7}  same"
    lines = [head, title]
    for one in sorted(report["results"], key=lambda r: (r["case"], r["batch"], r["engine"], r["state"])):
        lines.append(
            f"{one['case']:22}{one['engine']:17}{one['batch']:6} {one['state']:6}{one['verdicts_per_s']:12.1f}"
            f"{one['verdicts_per_cpu_s']:9.1f}{one['batch_ms']:10.1f}{one['share_of_peak']:7.0%}"
            f"  {'yes' if one['same_verdicts'] else 'NO'}"
        )
    for one in report["times"]:
        lines.append(
            f"{one['case']}, batch {one['batch']}: {one['engine']} {one['state']} gives {one['times']:.1f} times the"
            f" verdicts of {one['against']} ({one['times_per_cpu_s']:.1f} by CPU time)"
        )
    if "phases" in report:
        lines += [f"{name}: {value:.3f}" for name, value in report["phases"].items()]
    if "device_gb" in report:
        lines.append(f"most held on the card: {report['device_gb']:.2f} GB")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
