"""The policies that can be trained, by ``actor_rollout_ref.model.vla``."""

from __future__ import annotations

from verl.models.openvla_oft import OpenVLAOFTPolicy

POLICIES: dict[str, type[OpenVLAOFTPolicy]] = {"openvla-oft": OpenVLAOFTPolicy}
