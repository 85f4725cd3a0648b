"""How long loading a checkpoint may take: it follows the size of what is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evo_vlac.paths import from_home
from evo_vlac.weight_files import reading_s, weight_bytes
from verl.critic_config import CriticConfig
from verl.models.checkpoint_parts import find_parts

LEAST_S = 300.0  # processes start and import, whatever the size


@dataclass(frozen=True, slots=True)
class LoadLimit:
    """``seconds`` for a process to load ``size`` bytes out of ``folder``, ``least_s`` more than the bytes take.

    As text: what is waited for.
    """

    folder: Path
    size: int
    least_s: float = LEAST_S

    @classmethod
    def of(cls, folder: str | Path) -> LoadLimit:
        """Of a policy, by the size of its weights (of an adapter's base, where it is one); 0 where they cannot be read
        here."""
        path = find_parts(from_home(folder)).base
        return cls(path, weight_bytes(path))

    @classmethod
    def of_critic(cls, critic: CriticConfig) -> LoadLimit:
        """Of the sidecar: ``critic.ready_timeout_s``, and the time that its model takes, where it is ours."""
        model = critic.sidecar.config.get("model") if critic.sidecar.start else None
        local = isinstance(model, str) and critic.sidecar.config.get("engine") != "openai"
        path = from_home(str(model)) if local else Path()
        return cls(path, weight_bytes(path) if local else 0, critic.ready_timeout_s)

    @property
    def seconds(self) -> float:
        return self.least_s + reading_s(self.size)

    def __str__(self) -> str:
        return f"it loads {self.size / 1e9:.1f} GB from {self.folder}" if self.size else "it has no weights to load"


def verdict_s(critic: CriticConfig) -> float:
    """How long a verdict is waited for: a sidecar that is started again meanwhile has the time to load its model."""
    return critic.verdict_timeout_s + reading_s(LoadLimit.of_critic(critic).size)


NOTHING_TO_LOAD = LoadLimit(Path(), 0)
