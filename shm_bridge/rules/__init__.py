"""When an episode is done and what it is worth, by the critic's answers: numpy alone, for any training loop.

termination = Termination(DoneRules(hold=2))
termination.asked(step)                                   # after each question, in order
termination.answered(step, verdict)                       # after each answer, in any order: DONE when it is certain
score, rewards = score_episode(RewardRules(), steps, complete, values, value_steps(steps, stride))
"""

from shm_bridge.rules.rewards import REWARD_MODES, RewardRules, score_episode, value_steps
from shm_bridge.rules.termination import (
    ASKED_EVERY,
    INVALID_POLICIES,
    DoneRules,
    FrameVerdict,
    Outcome,
    Termination,
    asked_steps,
)

__all__ = [
    "ASKED_EVERY",
    "INVALID_POLICIES",
    "REWARD_MODES",
    "DoneRules",
    "FrameVerdict",
    "Outcome",
    "RewardRules",
    "Termination",
    "asked_steps",
    "score_episode",
    "value_steps",
]
