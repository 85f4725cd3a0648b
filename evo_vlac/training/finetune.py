"""Fine-tuning a critic on pairs, by ms-swift (``swift sft``), LoRA or full.

    demonstrations --training_set--> OUT/pairs/train.jsonl --swift sft, a child--> OUT/training/checkpoint-*
                                                                         last one --> OUT/final

ms-swift runs as a child: it changes global state, and a crash in it must not take the caller along. Its output goes to
``OUT/training.log``; the lines that report progress are passed on. ``OUT/final`` is renamed into place when complete.
"""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from evo_vlac.checkpoint import inspect, require_native
from evo_vlac.device import DTYPES
from evo_vlac.errors import DatasetError, OptionError, OutputError, TrainingError
from evo_vlac.outputs import write_json
from evo_vlac.paths import without_patterns
from evo_vlac.training.pairs import PairConfig
from evo_vlac.training.training_set import build_training_set, drawn_label_free

logger = logging.getLogger(__name__)

_PROGRESS = re.compile(r"'global_step/max_steps': '(\d+)/(\d+)'")
_LOSS = re.compile(r"'loss': '?([0-9.eE+-]+|nan)")
_KEEP = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*",
    "*processor*",
    "special_tokens_map.json",
    "chat_template*",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "adapter_config.json",
)


@dataclass(frozen=True, slots=True)
class FinetuneConfig:
    """What to train, on what, how long. ``demos`` or ``dataset`` (JSONL in ms-swift's format), not both; ``play``
    beside ``demos`` in label-free training.

    ``batch_size`` is one device's; ``learning_rate`` None means 1e-5 full, 1e-4 LoRA (ms-swift's own). ``threads``
    limits torch on a CPU. ``timeout`` in seconds; 0 means none. ``extra`` goes to ``swift sft`` as it is.
    """

    model: Path
    output: Path
    demos: tuple[Path, ...] = ()
    play: tuple[Path, ...] = ()
    tasks: tuple[str, ...] = ()
    dataset: Path | None = None
    camera: str | None = None
    pairs: PairConfig = field(default_factory=PairConfig)
    tuner: str = "lora"
    steps: int = 0
    epochs: float = 1.0
    batch_size: int = 16
    learning_rate: float | None = None
    warmup: float = 0.05
    weight_decay: float = 0.05
    scheduler: str = "cosine"
    lora_rank: int = 8
    train_vision: bool = False
    dtype: str = "float32"
    save_steps: int = 200
    workers: int = 1
    threads: int = 0
    seed: int = 0
    timeout: float = 0.0
    resume: bool = False
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.tuner not in ("lora", "full"):
            raise OptionError(f"tuner is {self.tuner!r}; allowed: lora, full")
        if self.dtype not in DTYPES:
            raise OptionError(f"dtype is {self.dtype!r}; allowed: {', '.join(DTYPES)}")
        if bool(self.demos) == (self.dataset is not None):
            raise OptionError("give either demonstrations (demos) or a JSONL (dataset), one of the two")
        if self.dataset is not None and (self.play or self.pairs.label_free):
            raise OptionError("label_free and play are about demos; a ready JSONL (dataset) has its labels")
        for name, low in (("steps", 0), ("batch_size", 1), ("save_steps", 1), ("workers", 0), ("lora_rank", 1)):
            if getattr(self, name) < low:
                raise OptionError(f"{name} is {getattr(self, name)}; at least {low} is needed")
        if self.steps == 0 and self.epochs <= 0:
            raise OptionError(f"steps is 0 and epochs {self.epochs}; one of them must be over 0")
        if self.learning_rate is not None and not 0 < self.learning_rate < 1:
            raise OptionError(f"learning_rate is {self.learning_rate}; over 0 and under 1 is allowed")


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """``final``: the checkpoint (full) or adapter (LoRA), ready to load. ``losses``: (step, loss) as logged."""

    final: Path
    steps: int
    seconds: float
    losses: tuple[tuple[int, float], ...]


Progress = Callable[[int, int, float], None]
"""Called with step, steps in all, loss."""


def finetune(config: FinetuneConfig, progress: Progress | None = None) -> FinetuneResult:
    """Train; raises CheckpointError, DatasetError, OutputError or TrainingError (with the log's last lines)."""
    require_native(inspect(config.model))
    final = config.output / "final"
    last = _last_checkpoint(config.output / "training")
    if not config.resume and (final.exists() or last is not None):
        raise OutputError(f"{config.output} holds an earlier training; resume it, or choose another folder")
    dataset = _dataset(config)
    started = time.monotonic()
    losses = _train(config, dataset, last if config.resume else None, progress)
    last = _last_checkpoint(config.output / "training")
    if last is None:
        raise TrainingError(f"swift sft ended without a checkpoint; see {config.output / 'training.log'}")
    publish(last, final)
    result = FinetuneResult(final, int(last.name.split("-")[1]), time.monotonic() - started, tuple(losses))
    record = {"config": config, "seconds": round(result.seconds, 1), "losses": result.losses}
    write_json(config.output / "finetune.json", record)
    return result


def publish(checkpoint: Path, final: Path) -> None:
    """Copy what inference needs of a checkpoint to ``final``; the folder is renamed into place when complete."""
    partial = final.with_name(final.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for pattern in _KEEP:
        for file in checkpoint.glob(pattern):
            shutil.copyfile(file, partial / file.name)  # not its mode: ms-swift's weights are private to their owner
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)


def _dataset(config: FinetuneConfig) -> Path:
    if config.dataset is not None:
        if not config.dataset.is_file():
            raise DatasetError(f"no such dataset: {config.dataset}")
        return config.dataset
    folder = config.output / "pairs"
    drawn = drawn_label_free(folder) if config.resume else None
    if drawn is not None:
        if drawn != config.pairs.label_free:
            how = "without" if drawn else "with"
            raise OptionError(f"{folder} holds pairs drawn {how} labels: resume as it began, or choose another folder")
        return folder / "train.jsonl"
    return build_training_set(config.demos, folder, config.pairs, config.camera, config.tasks, config.play).jsonl


def swift_arguments(config: FinetuneConfig, dataset: Path, resume_from: Path | None) -> list[str]:
    """The options of ``swift sft``."""
    length = {"max_steps": config.steps} if config.steps else {"num_train_epochs": config.epochs}
    options: dict[str, Any] = {
        "model": config.model.absolute(),
        "model_type": "internvl",
        "template": "internvl_hf",
        "check_model": "false",
        "use_hf": "true",
        "torch_dtype": config.dtype,
        "attn_impl": "sdpa",
        "tuner_type": config.tuner,
        "dataset": dataset.absolute(),
        "split_dataset_ratio": 0,
        "lazy_tokenize": "true",
        "load_from_cache_file": "false",
        "output_dir": (config.output / "training").absolute(),
        "add_version": "false",
        "report_to": "none",
        "per_device_train_batch_size": config.batch_size,
        "gradient_accumulation_steps": 1,
        **length,
        "warmup_ratio": config.warmup,
        "lr_scheduler_type": config.scheduler,
        "weight_decay": config.weight_decay,
        "gradient_checkpointing": "false",
        "logging_steps": 10,
        "save_steps": config.save_steps,
        "save_total_limit": 1,
        "dataloader_num_workers": config.workers,
        "seed": config.seed,
        "data_seed": config.seed,
        "eval_strategy": "no",
        "freeze_vit": _flag(not config.train_vision),
        "freeze_aligner": _flag(not config.train_vision),
    }
    if config.learning_rate is not None:
        options["learning_rate"] = config.learning_rate
    if config.tuner == "lora":
        options["lora_rank"] = config.lora_rank
    if resume_from is not None:
        options["resume_from_checkpoint"] = resume_from.absolute()
    return [part for key, value in options.items() for part in (f"--{key}", str(value))] + list(config.extra)


def _train(
    config: FinetuneConfig, dataset: Path, resume_from: Path | None, progress: Progress | None
) -> list[tuple[int, float]]:
    log = config.output / "training.log"
    try:
        config.output.mkdir(parents=True, exist_ok=True)
        file = log.open("ab" if resume_from else "wb", buffering=0)  # so that a full disk is told where it is met
    except OSError as error:
        raise OutputError(f"cannot write to {config.output}: {error}") from error
    losses: list[tuple[int, float]] = []
    with file, without_patterns(dataset) as plain:
        child = _start(config, swift_arguments(config, plain, resume_from))
        code = _follow(config, child, file, losses, progress)
    if code != 0:
        raise TrainingError(f"swift sft ended with code {code}; the end of {log}:\n{_tail(log)}")
    return losses


def _follow(
    config: FinetuneConfig,
    child: subprocess.Popen[str],
    file: BinaryIO,
    losses: list[tuple[int, float]],
    progress: Progress | None,
) -> int:
    """Copies the child's output into ``file``, until its end; its exit code."""
    try:
        for line in _lines(child, config.timeout):
            _write(file, line)
            found = _PROGRESS.search(line)
            if found:
                step, steps, loss = int(found[1]), int(found[2]), _loss(line)
                losses.append((step, loss))
                if not math.isnan(loss):
                    logger.info("step %d/%d, loss %.4f", step, steps, loss)
                if progress is not None:
                    progress(step, steps, loss)
        return child.wait(timeout=60)
    finally:
        _end(child)


def _write(file: BinaryIO, line: str) -> None:
    try:
        file.write(line.encode())
    except OSError as error:  # a full disk
        raise OutputError(f"{file.name} cannot be written: {error.strerror or error}") from error


def _start(config: FinetuneConfig, arguments: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
    if config.threads:
        environment |= {"OMP_NUM_THREADS": str(config.threads), "MKL_NUM_THREADS": str(config.threads)}
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "swift.cli.sft", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
        )
    except OSError as error:
        raise TrainingError(f"swift sft cannot be started: {error}") from error


def _end(child: subprocess.Popen[str]) -> None:
    """Where it still runs, at the latest by SIGKILL."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()


def _lines(child: subprocess.Popen[str], timeout: float) -> Iterator[str]:
    """The child's output line by line (progress bars' carriage returns count as line ends)."""
    assert child.stdout is not None
    deadline = time.monotonic() + timeout if timeout else float("inf")
    for line in child.stdout:
        yield line
        if time.monotonic() > deadline:
            raise TrainingError(f"the training took more than {timeout:.0f} s (timeout)")


def _loss(line: str) -> float:
    found = _LOSS.search(line)
    return float(found[1]) if found else float("nan")


def _tail(log: Path, lines: int = 15) -> str:
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(text[-lines:])


def _last_checkpoint(training: Path) -> Path | None:
    found = [p for p in training.glob("checkpoint-*") if p.name.split("-")[1].isdigit()]
    return max(found, key=lambda p: int(p.name.split("-")[1]), default=None)


def _flag(value: bool) -> str:
    return "true" if value else "false"
