"""TorchRL's shared-memory inference transport: frames in slots, slot numbers through queues."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

MAX_WORKERS = 8


def missing() -> str | None:
    for name in ("torch", "torchrl"):
        if not importlib.util.find_spec(name):
            return f"{name} is not installed"
    module = importlib.import_module("torchrl.modules.inference_server")
    return None if hasattr(module, "SharedMemoryTransport") else "this torchrl has no SharedMemoryTransport"


class Host:
    def __init__(self, workers: int, shape: tuple[int, int, int], spin: bool) -> None:
        self.torch: Any = importlib.import_module("torch")
        self.torch.set_num_threads(1)
        self.tensordict: Any = importlib.import_module("tensordict").TensorDict
        module = importlib.import_module("torchrl.modules.inference_server")
        request = self.tensordict({"frame": self.torch.zeros(shape, dtype=self.torch.uint8)})
        response = self.tensordict({"done": self.torch.zeros((), dtype=self.torch.bool)})
        self.transport = module.SharedMemoryTransport(request, response, num_slots=max(2 * workers, 2))
        self.clients = [self.transport.client() for _ in range(workers)]

    def kit(self, worker: int) -> Any:
        return self.clients[worker]

    def serve(self, running: Callable[[], bool]) -> None:
        while running():
            self.transport.wait_for_work(0.1)
            items, callbacks, _ = self.transport.drain_with_timing(64)
            for item, callback in zip(items, callbacks):
                frame = item["frame"].numpy()
                done = int(frame[0, 0, 0]) + int(frame[-1, -1, -1]) > 400
                self.transport.resolve(callback, self.tensordict({"done": self.torch.tensor(done)}))

    def close(self) -> None:
        pass


class Client:
    def __init__(self, kit: Any, shape: tuple[int, int, int], spin: bool) -> None:
        self.torch: Any = importlib.import_module("torch")
        self.torch.set_num_threads(1)
        self.tensordict: Any = importlib.import_module("tensordict").TensorDict
        self.client = kit

    def round_trip(self, frame: np.ndarray[Any, Any]) -> None:
        self.client(self.tensordict({"frame": self.torch.from_numpy(frame)}), timeout=30)

    def close(self) -> None:
        pass
