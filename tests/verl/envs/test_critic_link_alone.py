"""A worker's side of the bridge and a server, both in this process: what is written where, and what is asked."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import numpy as np
import pytest

from shm_bridge import LaneReader, Reply, Server
from shm_bridge.names import entries
from tests.verl.critic import critic_config
from tests.verl.envs.fake_env import FakeEnv
from tests.verl.envs.mapped import bytes_behind
from verl.envs.critic_link import CriticLink


@pytest.fixture
def run_id() -> Iterator[str]:
    name = f"t{uuid.uuid4().hex[:10]}"
    yield name
    assert not list(entries(name)), "a segment or semaphore was left behind"


def test_one_write_per_frame_between_renderer_and_engine(run_id: str) -> None:
    """The copy budget: the buffer the renderer writes, the lane's view, the policy's view and the engine's image are
    the same bytes of the same segment; the renderer writes them once.
    """
    with Server.create(run_id) as server:
        server.set_ready(True)
        env = FakeEnv({})
        link = CriticLink(critic_config(run_id), env.cameras[0], 8, "budget", lambda: None)
        written: list[np.ndarray] = []
        render = env.render
        env.render = lambda camera, out: (written.append(out), render(camera, out))  # type: ignore[method-assign]
        try:
            link.begin(1, "task")
            place = link.draw(env, 0)
            link.ask_done(0)
            server.wait(5.0)
            (question,) = server.poll()
            (image,) = question.images()
            assert len(written) == 1, "one write a frame"
            with LaneReader.open(run_id, "budget") as reader:
                seen_by_policy = reader.view(place)
                looks = [written[0], link.view(0), seen_by_policy, image]
                assert len({bytes_behind(look) for look in looks}) == 1
                assert ":lane." in bytes_behind(image)[0]
                assert not image.flags.writeable and not seen_by_policy.flags.writeable
            server.answer(question, Reply(done=False, probability=0.0))
            link.end()
        finally:
            link.close()


def test_the_critic_may_be_asked_in_other_words_than_the_policy_is_told(run_id: str) -> None:
    """By ``critic.instructions``; an instruction that is not there is asked as it is."""
    with Server.create(run_id) as server:
        server.set_ready(True)
        env = FakeEnv({})
        words = critic_config(run_id, instructions=(("lift it", "pick the red cube up"),))
        link = CriticLink(words, env.cameras[0], 8, "words", lambda: None)
        try:
            for episode, (told, asked) in enumerate((("lift it", "pick the red cube up"), ("push it", "push it"))):
                link.begin(episode, told)
                link.draw(env, 0)
                link.ask_done(0)
                server.wait(5.0)
                (question,) = server.poll()
                assert question.task == asked
                server.answer(question, Reply(done=False, probability=0.0))
                link.end()
        finally:
            link.close()
