"""From episodes to the learner's samples: which groups count, their advantages, masks and token-level rewards.

Nothing here reads ``EpisodeEnd.env_success``: a test holds that changing it changes no sample.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from verl.algorithms.core_algos import (
    GroupFilter,
    batch_advantages,
    gae,
    grpo_advantages,
    normalise_by_task,
    whiten,
)
from verl.config import AlgorithmConfig, DataConfig
from verl.episode import Episode
from verl.pictures import Pictures
from verl.samples import Samples, token_mask


def usable_groups(episodes: Iterable[Episode], size: int) -> list[list[Episode]]:
    """The groups of a rollout that has ended, in the order of their numbers, smaller by what was dropped or given up.

    A group of which one of ``size`` rollouts is left has nothing to be compared with, and is no group.
    """
    groups: dict[int, list[Episode]] = defaultdict(list)
    for episode in episodes:
        groups[episode.request.group].append(episode)
    return [sorted(g, key=lambda e: e.request.episode) for _, g in sorted(groups.items()) if len(g) >= min(2, size)]


def group_filter(data: DataConfig) -> GroupFilter | None:
    """The configured filter, or None when every group counts, as those of one rollout do (``gae`` needs no group)."""
    if not data.filter_accuracy or data.n_samples == 1:
        return None
    spread = float("inf") if data.value_spread is None else data.value_spread
    return GroupFilter(data.accuracy_lower_bound, data.accuracy_upper_bound, data.min_spread, spread)


def keeps(rule: GroupFilter | None, group: list[Episode]) -> bool:
    """Whether a group of rollouts of one initial state is trained on."""
    if rule is None:
        return True
    return rule.keep(np.array([e.end.complete for e in group]), np.array([e.end.score for e in group]))


def build_samples(
    episodes: list[Episode], algorithm: AlgorithmConfig, chunk: int, action_dim: int, group_size: int = 0
) -> Samples:
    """Flattens ``episodes`` into chunk samples with advantages.

    Args:
        group_size: rollouts that a whole group has; 0: every group here is whole.

    GRPO, RLOO, REINFORCE++: one advantage an episode, on all its counting tokens. GAE: one a chunk, from its rewards.
    With ``norm_adv_by_task`` every task's are brought to one size: GRPO and RLOO divide them by their root mean square,
    the other two take mean and deviation of the task instead of the batch's.
    Token ``finish_step * action_dim - 1`` is the last that counts; an episode of no step has none.
    """
    tasks = np.array([e.request.task if algorithm.norm_adv_by_task else 0 for e in episodes])
    masks = [token_mask(e.end.steps, len(e.decisions), chunk, action_dim) for e in episodes]
    if algorithm.adv_estimator == "gae":
        pairs = [_chunk_gae(e, algorithm, chunk) for e in episodes]
        per_chunk = _whitened([p[0] for p in pairs], _chunk_weights(masks, algorithm.loss_agg_mode), tasks)
        returns = [p[1] for p in pairs]
    else:
        per_episode = _of_episodes(episodes, algorithm, tasks, group_size)
        per_chunk = [np.full(len(e.decisions), a, np.float32) for e, a in zip(episodes, per_episode)]
        returns = [np.zeros(len(e.decisions), np.float32) for e in episodes]
    advantages = [a[:, None] * m for a, m in zip(per_chunk, masks)]
    return Samples(
        images=Pictures.of(e.decisions.images for e in episodes),
        proprio=np.concatenate([e.decisions.proprio for e in episodes]),
        instructions=[e.end.instruction for e in episodes for _ in e.decisions.tokens],
        tokens=np.concatenate([e.decisions.tokens for e in episodes]),
        old_log_probs=np.concatenate([e.decisions.log_probs for e in episodes]),
        mask=np.concatenate(masks),
        advantages=np.concatenate(advantages).astype(np.float32),
        returns=np.concatenate(returns),
        imitation=np.zeros(sum(len(e.decisions) for e in episodes), np.float32),
        trajectory=np.repeat([e.request.episode for e in episodes], [len(e.decisions) for e in episodes]),
    )


def _of_episodes(episodes: list[Episode], algorithm: AlgorithmConfig, tasks: np.ndarray, size: int) -> np.ndarray:
    """(E,) float32: one advantage an episode. ``tasks``: (E,) what is normalised apart; ``size``: of a whole group."""
    scores = np.array([e.end.step_rewards.sum() for e in episodes], np.float32)
    if algorithm.adv_estimator == "reinforce_plus_plus":
        advantages = np.zeros(len(scores), np.float32)
        for task in np.unique(tasks):
            advantages[tasks == task] = batch_advantages(scores[tasks == task])
        return advantages
    groups = np.array([e.request.group for e in episodes])
    if algorithm.adv_estimator == "rloo":
        advantages = _leave_one_out(scores, groups)
    else:
        advantages = grpo_advantages(scores, groups, algorithm.norm_adv_by_std_in_grpo)
        if size and not algorithm.norm_adv_by_std_in_grpo:
            advantages = advantages * _shrunk_factor(groups, size)
    return normalise_by_task(advantages, tasks) if algorithm.norm_adv_by_task else advantages


def _shrunk_factor(groups: np.ndarray, size: int) -> np.ndarray:
    """(E,) float32: makes an episode of a smaller group weigh in expectation what one of a whole group does.

    A group's mean holds the episode's own score, so that of m episodes the expected gradient is (m - 1) / m of the one
    with an independent baseline (Kool et al. 2019, "Buy 4 REINFORCE samples", eq. 7). 1 for a whole group.
    """
    _, at, counts = np.unique(groups, return_inverse=True, return_counts=True)
    members = counts[at].astype(np.float64)
    return np.asarray((size - 1) / size * members / np.maximum(members - 1, 1), np.float32)


def token_weights(mask: np.ndarray, trajectory: np.ndarray, mode: str) -> np.ndarray:
    """What each token counts for in a mini-batch's loss; (N, L) float32, of sum 1.

    An episode that succeeds is short, one that fails is long: by ``token-mean`` what failures did is unlearnt with more
    weight than what successes did. ``seq-mean-token-mean`` gives each episode the same, as GRPO does (arXiv:2402.03300,
    eq. 3) and SimpleVLA-RL (verl/workers/actor/dp_rob.py: the mean within a trajectory, then over trajectories).

    Args:
        mask: (N, L) float32, 1 where the token counts.
        trajectory: (N,) int64, the episode of each row.
    """
    if mode == "token-mean":
        return np.asarray(mask / max(mask.sum(), 1), np.float32)
    _, at = np.unique(trajectory, return_inverse=True)
    tokens = np.bincount(at, weights=mask.sum(axis=1))
    episodes = max(np.count_nonzero(tokens), 1)
    return np.asarray(mask / (np.maximum(tokens[at], 1) * episodes)[:, None], np.float32)


def _chunk_weights(masks: list[np.ndarray], mode: str) -> list[np.ndarray]:
    """For each episode the (chunks,) weights of its chunks in the loss."""
    owner = np.repeat(np.arange(len(masks)), [len(mask) for mask in masks])
    weights = token_weights(np.concatenate(masks), owner, mode).sum(axis=1)
    return np.split(weights, np.cumsum([len(mask) for mask in masks])[:-1])


def _chunk_gae(episode: Episode, algorithm: AlgorithmConfig, chunk: int) -> tuple[np.ndarray, np.ndarray]:
    end, chunks, values = episode.end, len(episode.decisions), episode.decisions.values
    padded = np.zeros(chunks * chunk, np.float32)
    padded[: end.steps] = end.step_rewards[: end.steps]
    rewards = padded.reshape(chunks, chunk).sum(axis=1)
    values = values if values is not None else np.zeros(chunks, np.float32)
    return gae(rewards, values, algorithm.gamma, algorithm.lam)


def _whitened(advantages: list[np.ndarray], weights: list[np.ndarray], tasks: np.ndarray) -> list[np.ndarray]:
    """To zero mean and unit deviation over each of ``tasks``' part of the batch, as PPO does over all of it.

    ``weights``: of each chunk in the loss, which is a mean over tokens; a chunk that an episode's end cuts has fewer.
    """
    lengths = [len(a) for a in advantages]
    flat, weight, task = np.concatenate(advantages), np.concatenate(weights), np.repeat(tasks, lengths)
    whitened = np.zeros(len(flat), np.float32)
    for one in np.unique(tasks):
        whitened[task == one] = whiten(flat[task == one], weight[task == one])
    return np.split(whitened, np.cumsum(lengths)[:-1])


def _leave_one_out(scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """RLOO (Ahmadian et al. 2024, eq. 8): score minus the mean of the others of its group."""
    advantages = np.zeros(len(scores), np.float32)
    for group in np.unique(groups):
        member = groups == group
        n = member.sum()
        if n > 1:
            advantages[member] = (scores[member] - scores[member].mean()) * n / (n - 1)
    return advantages
