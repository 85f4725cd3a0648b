"""The lines that the critic must not cross: too many unreadable replies, too few dones that the simulator confirms."""

from __future__ import annotations

from collections.abc import Iterator

from verl.critic_config import CriticConfig
from verl.errors import RunFailedError
from verl.trainer.audit import Audit


def crossed(critic: CriticConfig, audit: Audit) -> Iterator[str]:
    """Warnings about the latest episodes. Raises RunFailedError where the configuration says to stop."""
    if critic.enable:
        yield from _unreadable(critic, audit.recent_invalid_share())
        yield from _unconfirmed(critic, audit.recent_precision())


def _unreadable(critic: CriticConfig, share: float) -> Iterator[str]:
    told = f"{100 * share:.1f} % of VLAC's latest replies could not be read"
    if critic.invalid_stop_share is not None and share > critic.invalid_stop_share:
        raise RunFailedError(f"{told}, more than critic.invalid_stop_share={critic.invalid_stop_share:g}")
    if share > critic.invalid_warn_share:
        yield f"{told} (critic.invalid_warn_share={critic.invalid_warn_share:g}); the sidecar's log has their texts"


def _unconfirmed(critic: CriticConfig, precision: float) -> Iterator[str]:
    if not precision < critic.audit_min_precision:  # also where there is nothing to tell (NaN)
        return
    message = (
        f"of VLAC's latest dones only {100 * precision:.0f} % are successes for the simulator "
        f"(critic.audit_min_precision={critic.audit_min_precision}): the policy may be exploiting the critic"
    )
    if critic.audit_stop:
        raise RunFailedError(message)
    yield message
