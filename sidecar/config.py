"""Configuration of the sidecar: frozen dataclasses, checked when built.

A YAML file holds the keys, nested as the classes are; ``key=value`` arguments override (``batch.max_size=32``). Every
error names the key, the value and what is allowed. :mod:`sidecar.config_file` reads and overrides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from evo_vlac.weight_files import reading_s, weight_bytes
from sidecar.errors import ConfigError

ENGINES = ("direct", "swift", "vllm", "openai", "fixed")
LEVELS = ("debug", "info", "warning", "error")
DTYPES = ("auto", "float32", "bfloat16", "float16")
DEVICES = re.compile(r"all|(cpu|cuda:\d+)(,(cpu|cuda:\d+))*")
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def require(*rules: tuple[bool, str, Any, str]) -> None:
    """Raises ConfigError with a line for each rule that does not hold: (holds, key, value, what is allowed)."""
    problems = [f"{key}={value!r}: allowed: {allowed}" for holds, key, value, allowed in rules if not holds]
    if problems:
        raise ConfigError(*problems)


@dataclass(frozen=True, slots=True)
class BatchConfig:
    """How questions become batches.

    ``max_size``: queries in one batch. ``max_wait_ms``: how long an idle engine waits for more before it takes a
    batch that is not full (0: not at all).
    """

    max_size: int = 16
    max_wait_ms: float = 0.0

    def __post_init__(self) -> None:
        require(
            (1 <= self.max_size <= 4096, "batch.max_size", self.max_size, "1 to 4096"),
            (0 <= self.max_wait_ms <= 1000, "batch.max_wait_ms", self.max_wait_ms, "0 to 1000"),
        )


@dataclass(frozen=True, slots=True)
class ValuesConfig:
    """How critic answers become value lists (see evo_vlac.values).

    ``mode``: relative (every critic is a share of the remaining work), mirror, mix_f. ``rich``: probability-weighted
    numbers.
    """

    mode: str = "relative"
    rich: bool = False

    def __post_init__(self) -> None:
        require((self.mode in ("relative", "mirror", "mix_f"), "values.mode", self.mode, "relative, mirror, mix_f"))


@dataclass(frozen=True, slots=True)
class ReferenceConfig:
    """Reference trajectories shown with every critic question, ``count`` images of each: ``folder`` holds the images of
    one for all tasks, or a folder a task, with its instruction in ``task.txt``."""

    folder: str | None = None
    count: int = 6

    def __post_init__(self) -> None:
        require((1 <= self.count <= 64, "reference.count", self.count, "1 to 64"))


@dataclass(frozen=True, slots=True)
class MemoryConfig:
    """The share of an accelerator. ``budget_gb``: most that is held in ROLLOUT (null: no limit of ours).

    ``on_update``: offload (weights to pinned host memory, caches dropped) or keep. ``load``: at_once, or asked: once
    the trainer asks for ROLLOUT, so that the others have loaded by then. ``feature_cache_mb`` and ``prefix_cache_mb``
    bound the direct engine's caches.
    """

    budget_gb: float | None = None
    on_update: str = "offload"
    load: str = "at_once"
    feature_cache_mb: float = 512.0
    prefix_cache_mb: float = 1024.0

    def __post_init__(self) -> None:
        require(
            (self.budget_gb is None or self.budget_gb > 0, "memory.budget_gb", self.budget_gb, "null or more than 0"),
            (self.on_update in ("offload", "keep"), "memory.on_update", self.on_update, "offload, keep"),
            (self.load in ("at_once", "asked"), "memory.load", self.load, "at_once, asked"),
            (self.feature_cache_mb >= 0, "memory.feature_cache_mb", self.feature_cache_mb, "0 or more"),
            (self.prefix_cache_mb >= 0, "memory.prefix_cache_mb", self.prefix_cache_mb, "0 or more"),
        )


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """When the service counts as ready, wedged or looping. Seconds.

    ``start_s``: from the start to the answered probe, and to a phase, beside the time that the model's size takes to be
    read. ``batch_s``: a batch that takes longer is a wedged engine. ``probe_every_s``: an idle engine is asked a probe
    question this often (0: never). ``heartbeat_s``: a service that is silent for longer is killed. ``max_crashes``
    within ``crash_window_s`` end the sidecar. ``drain_s``: time for what is pending after SIGTERM. ``backoff_s``
    doubles from crash to crash up to ``backoff_max_s``.
    """

    start_s: float = 300.0
    batch_s: float = 60.0
    probe_every_s: float = 30.0
    heartbeat_s: float = 20.0
    max_crashes: int = 4
    crash_window_s: float = 120.0
    backoff_s: float = 0.2
    backoff_max_s: float = 10.0
    drain_s: float = 5.0

    def __post_init__(self) -> None:
        require(
            *(
                (getattr(self, name) > 0, f"health.{name}", getattr(self, name), "more than 0")
                for name in ("start_s", "batch_s", "heartbeat_s", "crash_window_s", "backoff_s", "backoff_max_s")
            ),
            *(
                (getattr(self, name) >= 0, f"health.{name}", getattr(self, name), "0 or more")
                for name in ("probe_every_s", "drain_s")
            ),
            (self.max_crashes >= 1, "health.max_crashes", self.max_crashes, "1 or more"),
        )


@dataclass(frozen=True, slots=True)
class InvalidConfig:
    """What happens to answers that cannot be read, besides valid=false: their frames go to ``frames_dir``, at most
    ``max_files`` of them (null: nowhere)."""

    frames_dir: str | None = None
    max_files: int = 100

    def __post_init__(self) -> None:
        require((self.max_files >= 0, "invalid.max_files", self.max_files, "0 or more"))


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Structured logs: JSON lines to ``file``, readable lines to standard error."""

    level: str = "info"
    file: str | None = None

    def __post_init__(self) -> None:
        require((self.level in LEVELS, "log.level", self.level, ", ".join(LEVELS)))


@dataclass(frozen=True, slots=True)
class DirectConfig:
    """Our own engine. ``compile``: torch.compile of the image tower and the decoder (worth it on a GPU).
    ``chunk_images``: images through the tower at once. ``force_number``: a pair's answer may only hold tokens of a
    number; off, a model that says something else is invalid, as with every other engine. ``quantize``: fp8 or int8
    weights on a GPU (torchao; null: as ``dtype`` says). ``converted_dir``: where the
    converted copy of a published (remote-code) checkpoint is kept (null: the user's cache)."""

    compile: bool = False
    chunk_images: int = 32
    force_number: bool = False
    quantize: str | None = None
    converted_dir: str | None = None

    def __post_init__(self) -> None:
        require(
            (1 <= self.chunk_images <= 1024, "direct.chunk_images", self.chunk_images, "1 to 1024"),
            (self.quantize in (None, "fp8", "int8"), "direct.quantize", self.quantize, "null, fp8, int8"),
        )


@dataclass(frozen=True, slots=True)
class VllmConfig:
    """vLLM. ``gpu_memory_utilization``: null derives it from memory.budget_gb. ``kv_cache_gb``: a cache of that size;
    null: what is left of that share when it has measured itself. ``max_model_len``: null: 4096."""

    gpu_memory_utilization: float | None = None
    kv_cache_gb: float | None = None
    max_model_len: int | None = None
    enforce_eager: bool = False
    images_per_prompt: int = 12

    def __post_init__(self) -> None:
        share, cache, length = self.gpu_memory_utilization, self.kv_cache_gb, self.max_model_len
        require(
            (share is None or 0 < share <= 1, "vllm.gpu_memory_utilization", share, "null or 0 to 1"),
            (cache is None or cache > 0, "vllm.kv_cache_gb", cache, "null or more than 0"),
            (length is None or length >= 1, "vllm.max_model_len", length, "null or 1 or more"),
            (1 <= self.images_per_prompt <= 64, "vllm.images_per_prompt", self.images_per_prompt, "1 to 64"),
        )


@dataclass(frozen=True, slots=True)
class OpenaiConfig:
    """A remote VLAC behind an OpenAI-compatible server.

    ``url`` ends in /v1 (of several servers: comma-separated); ``model``: its name there (null: the only one it lists).
    ``api_key_env`` names the variable that holds the key. ``image_size``: images are squashed to this many pixels
    square before they are sent, as VLAC was trained (0: sent as they are, and the server may cut them into tiles).
    ``image_format``: png (exact) or jpeg. ``timeout_s`` of one try, from the connection to the last byte; ``retries``
    with back-off from ``backoff_s`` doubling, all of them within four fifths of ``health.batch_s``.
    ``max_reply_bytes``: a longer reply is not read. ``image_ids``: name every image, so that a server that keeps them
    (vLLM) is sent each only once.
    """

    url: str | None = None
    model: str | None = None
    api_key_env: str | None = None
    concurrency: int = 16
    timeout_s: float = 30.0
    retries: int = 3
    backoff_s: float = 0.2
    max_reply_bytes: int = 1 << 20
    image_size: int = 448
    image_format: str = "png"
    image_ids: bool = False

    def __post_init__(self) -> None:
        ok = all(url.startswith(("http://", "https://")) for url in self.urls)
        size = self.max_reply_bytes
        require(
            (ok, "openai.url", self.url, "http(s) addresses, as http://host:8000/v1"),
            (1 <= self.concurrency <= 1024, "openai.concurrency", self.concurrency, "1 to 1024"),
            (self.timeout_s > 0, "openai.timeout_s", self.timeout_s, "more than 0"),
            (self.backoff_s >= 0, "openai.backoff_s", self.backoff_s, "0 or more"),
            (0 <= self.retries <= 20, "openai.retries", self.retries, "0 to 20"),
            (1 << 10 <= size <= 1 << 28, "openai.max_reply_bytes", size, "1024 to 268435456 (256 MiB)"),
            (0 <= self.image_size <= 4096, "openai.image_size", self.image_size, "0 (as they are) to 4096"),
            (self.image_format in ("png", "jpeg"), "openai.image_format", self.image_format, "png, jpeg"),
        )

    @property
    def urls(self) -> tuple[str, ...]:
        """The addresses in ``url``."""
        return tuple(url.strip() for url in self.url.split(",")) if self.url else ()


@dataclass(frozen=True, slots=True)
class FixedConfig:
    """A stand-in for an engine: no model, scripted answers after a fixed time. For measurements and fault tests only.

    ``delay_ms`` a batch, ``per_query_ms`` on top for each query. ``done_at_step``: DONE is 1 from this step on (null:
    never). ``critic``: the number that every pair gets. ``script``: faults by batch number: ``3:crash``, ``5:wedge``,
    ``7:oom``, ``9:garbage``, ``11:error`` (comma-separated; ``all:garbage`` for every one).
    """

    delay_ms: float = 0.0
    per_query_ms: float = 0.0
    done_at_step: int | None = None
    critic: float = 10.0
    script: str = ""

    def __post_init__(self) -> None:
        pattern = r"((\d+|all):(crash|wedge|oom|garbage|error)(,|$))*"
        require(
            (self.delay_ms >= 0, "fixed.delay_ms", self.delay_ms, "0 or more"),
            (self.per_query_ms >= 0, "fixed.per_query_ms", self.per_query_ms, "0 or more"),
            (-100 <= self.critic <= 100, "fixed.critic", self.critic, "-100 to 100"),
            (re.fullmatch(pattern, self.script) is not None, "fixed.script", self.script, "as 3:crash,5:wedge"),
        )


@dataclass(frozen=True, slots=True)
class Config:
    """Everything. ``threshold``: done when P(done) is strictly over it. ``camera``: the one that the critic sees (null:
    the lane's first). ``devices``: a replica on each, in place of ``device``: all (of CUDA), or as cuda:0,cuda:1.
    ``metrics_port``: 0 picks a free one, null is off. ``torch_threads``: null is 1 on up to 4 cores, else half of them,
    at most 8. ``nice`` is added to the process's niceness. ``trace``: a file for :mod:`sidecar.trace` (null: none)."""

    run_id: str
    engine: str = "direct"
    model: str | None = None
    adapter: str | None = None
    threshold: float = 0.9
    camera: str | None = None
    device: str = "auto"
    devices: str | None = None
    dtype: str = "auto"
    torch_threads: int | None = None
    nice: int = 0
    max_lanes: int = 256
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    trace: str | None = None
    batch: BatchConfig = field(default_factory=BatchConfig)
    values: ValuesConfig = field(default_factory=ValuesConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    invalid: InvalidConfig = field(default_factory=InvalidConfig)
    log: LogConfig = field(default_factory=LogConfig)
    direct: DirectConfig = field(default_factory=DirectConfig)
    vllm: VllmConfig = field(default_factory=VllmConfig)
    openai: OpenaiConfig = field(default_factory=OpenaiConfig)
    fixed: FixedConfig = field(default_factory=FixedConfig)

    def __post_init__(self) -> None:
        ok = _RUN_ID.fullmatch(self.run_id) is not None
        device = re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device) is not None
        threads, port = self.torch_threads, self.metrics_port
        loads, asks = self.engine in ("direct", "swift", "vllm"), self.engine == "openai"
        of_engine = f"engine={self.engine}"
        several = self.devices
        known = several is None or DEVICES.fullmatch(several) is not None
        require(
            (ok, "run_id", self.run_id, "1 to 64 letters, digits, dots, dashes, underscores"),
            (self.engine in ENGINES, "engine", self.engine, ", ".join(ENGINES)),
            (0 <= self.threshold < 1, "threshold", self.threshold, "0 <= threshold < 1"),
            (device, "device", self.device, "auto, cpu, cuda, cuda:N"),
            (known, "devices", several, "null, all, or a list as cuda:0,cuda:1"),
            (several is None or not asks, "devices", several, f"null ({of_engine} loads no model here)"),
            (several is None or self.device == "auto", "device", self.device, f"auto (devices={several} says where)"),
            (self.dtype in DTYPES, "dtype", self.dtype, ", ".join(DTYPES)),
            (threads is None or 1 <= threads <= 1024, "torch_threads", threads, "null or 1 to 1024"),
            (-20 <= self.nice <= 19, "nice", self.nice, "-20 to 19"),
            (1 <= self.max_lanes <= 65536, "max_lanes", self.max_lanes, "1 to 65536"),
            (port is None or 0 <= port <= 65535, "metrics_port", port, "null, 0 (any free one) or a port number"),
            (not loads or bool(self.model), "model", self.model, f"a checkpoint folder ({of_engine} loads one)"),
            (not asks or bool(self.openai.url), "openai.url", self.openai.url, f"the server's address ({of_engine})"),
        )

    @property
    def start_s(self) -> float:
        """Seconds that the service may take to be ready: ``health.start_s``, and what the model's weights take."""
        return self.health.start_s + reading_s(self.model_bytes)

    @property
    def model_bytes(self) -> int:
        """Of the weights that are loaded here."""
        return 0 if self.engine == "openai" else weight_bytes(self.model)
