"""The typed face: every answer becomes a result, in order, and invalid ones never become numbers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest

from evo_vlac.critic import Critic, TrajectoryOptions
from evo_vlac.engine import Answer, Query
from evo_vlac.errors import EngineError, OptionError
from evo_vlac.swift_engine import SwiftEngine
from evo_vlac.values import ValueOptions, critic_to_values
from tests.evo_vlac.conftest import TASK, ChosenEngine, picture

Frames = list[npt.NDArray[np.uint8]]


def numbered(count: int) -> Frames:
    """Frames that carry their number in their pixels."""
    return [np.full((8, 8, 3), i, np.uint8) for i in range(count)]


def seen(query: Query) -> list[int]:
    return [int(np.asarray(image)[0, 0, 0]) for image in query.images]


def test_a_trajectory_asks_its_pairs_in_order() -> None:
    """Neighbours on the grid, the last frame among them; values belong to the answers."""
    engine = ChosenEngine(lambda query: f"+{seen(query)[1]}")
    result = Critic(engine).trajectory(numbered(8), TASK, options=TrajectoryOptions(skip=3))
    assert [seen(query) for query in engine.asked] == [[0, 3], [3, 6], [6, 7]]
    assert result.critics == (3, 6, 7) and result.frames == (0, 3, 6, 7)
    assert result.values == tuple(critic_to_values([3, 6, 7]))
    assert result.valid and result.reward == pytest.approx(result.values[-1] / 100)


def test_every_frame_divides_the_critic_by_the_distance() -> None:
    """Without frame_skip a critic over skip frames counts per frame."""
    engine = ChosenEngine(lambda _: "+12")
    result = Critic(engine).trajectory(numbered(6), TASK, options=TrajectoryOptions(skip=3, frame_skip=False))
    assert result.critics == (4.0, 4.0, 4.0) and result.frames == (0, 3, 4, 5)


def test_reverse_swaps_and_negates() -> None:
    """VROC: the pair is shown the other way round, the answer's sign turned."""
    engine = ChosenEngine(lambda _: "-10")
    options = TrajectoryOptions(reverse=True)
    result = Critic(engine).trajectory(numbered(3), TASK, options=options)
    assert [seen(query) for query in engine.asked] == [[1, 0], [2, 1]]
    assert result.critics == (10, 10) and result.voc == 1.0 and result.negative_rate == 0


def test_references_are_sampled_and_come_first() -> None:
    """ref_num of the reference frames, then the first frame, then the pair."""
    engine = ChosenEngine(lambda _: "+1")
    reference = [np.full((8, 8, 3), 100 + i, np.uint8) for i in range(9)]
    Critic(engine).trajectory(numbered(3), TASK, reference=reference, options=TrajectoryOptions(ref_num=3))
    assert seen(engine.asked[1]) == [100, 104, 108, 0, 1, 2]


@pytest.mark.parametrize("count", [0, 1])
def test_reference_numbers_of_0_and_1_work(count: int) -> None:
    """No reference; or the goal alone."""
    engine = ChosenEngine(lambda _: "+1")
    Critic(engine).trajectory(numbered(2), TASK, reference=numbered(4), options=TrajectoryOptions(ref_num=count))
    assert seen(engine.asked[0]) == ([0, 1] if count == 0 else [3, 0, 0, 1])


def test_one_unreadable_answer_loses_nothing_else() -> None:
    """The value holds where it stands, the rest counts, and it is said how many there were."""
    engine = ChosenEngine(lambda query: "no idea" if seen(query)[1] == 2 else "+50")
    result = Critic(engine).trajectory(numbered(4), TASK)
    assert result.invalid == 1 and not result.valid
    assert math.isnan(result.critics[1]) and result.values == (0.0, 50.0, 50.0, 75.0)
    assert result.results[1].text == "no idea"


def test_short_trajectories() -> None:
    """One frame has value 0; none is an error."""
    critic = Critic(ChosenEngine(lambda _: "+1"))
    assert critic.trajectory(numbered(1), TASK).values == (0.0,)
    with pytest.raises(OptionError, match="no frames"):
        critic.trajectory([], TASK)


def test_done_in_its_three_ways() -> None:
    """Plain, against a goal, in context; not two at once, and a task unless the goal decides."""
    engine = ChosenEngine(lambda query: "second image progressing: 95% </think> 5" if "think" in query.prompt else "1")
    critic = Critic(engine)
    assert [r.done for r in critic.done(numbered(2), TASK)] == [True, True]
    assert critic.done(numbered(1), None, goal=picture(1))[0].done
    assert critic.done(numbered(1), TASK, goal=picture(1))[0].done
    context = critic.done(numbered(3), TASK, reference=numbered(2))
    assert [r.done for r in context] == [False, True, True] and context[1].value == 0.95
    with pytest.raises(OptionError, match="takes one of them"):
        critic.done(numbered(1), TASK, goal=picture(1), reference=numbered(2))
    with pytest.raises(OptionError, match="task is None"):
        critic.done(numbered(1), None)


def test_questions_go_in_portions_with_progress() -> None:
    """No more than batch_size at once, and progress after each."""
    engine = ChosenEngine(lambda _: "1")
    heard: list[tuple[int, int]] = []
    critic = Critic(engine, batch_size=3, progress=lambda done, total: heard.append((done, total)))
    critic.done(numbered(7), TASK)
    assert engine.portions == [3, 3, 1] and heard == [(3, 7), (6, 7), (7, 7)]


def test_the_system_prompt_is_the_checkpoints_unless_told() -> None:
    """Replaced, or left out."""
    for system, wanted in ((None, "You are a visual-language"), ("", ""), ("mine", "mine")):
        engine = ChosenEngine(lambda _: "1")
        Critic(engine, system=system).done(numbered(1), TASK)
        assert engine.asked[0].system.startswith(wanted) and bool(engine.asked[0].system) == bool(wanted)


def test_words() -> None:
    """Describing, asking, acting; a failed question raises."""
    critic = Critic(ChosenEngine(lambda q: "(1 2 3 4 5 6 0)" if "action" in q.kind else "open the door </task>"))
    assert critic.describe(picture(0), picture(1)) == "open the door"
    assert critic.ask([picture(0)], "what?") == "open the door </task>"
    assert critic.action([picture(0)], [0] * 7, TASK).action["x"] == 1
    with pytest.raises(EngineError, match="boom"):
        Critic(ChosenEngine(lambda _: Answer("", error="boom"))).ask([], "what?")


def test_where_nothing_can_be_answered_it_is_an_error(engine: SwiftEngine, frames: Frames) -> None:
    """Pictures of a wrong dtype throughout: one clear error; one among others: that answer's."""
    wrong = [frame.astype(np.float32) for frame in frames]
    with pytest.raises(EngineError, match="float32"):
        Critic(engine).trajectory(wrong, TASK)  # type: ignore[arg-type]
    results = Critic(engine).done([frames[0], wrong[1]], TASK)  # type: ignore[list-item]
    assert results[0].error is None and "float32" in str(results[1].error)


def test_bad_options_are_named() -> None:
    """Portions, skips and reference numbers."""
    with pytest.raises(OptionError, match="batch_size is 0"):
        Critic(ChosenEngine(lambda _: "1"), batch_size=0)
    with pytest.raises(OptionError, match="skip is 0"):
        TrajectoryOptions(skip=0)
    with pytest.raises(OptionError, match="ref_num is -1"):
        TrajectoryOptions(ref_num=-1)


def test_value_options_reach_the_values() -> None:
    """The trajectory's values are those of its options."""
    engine = ChosenEngine(lambda query: "-50" if seen(query)[1] == 2 else "+80")
    options = TrajectoryOptions(values=ValueOptions(mode="mix_f", bias=1))
    result = Critic(engine).trajectory(numbered(4), TASK, options=options)
    assert result.critics == (81, -49, 81) and list(result.values) == critic_to_values([81, -49, 81], "mix_f")


def test_the_real_model_runs_under_it(engine: SwiftEngine, frames: Frames) -> None:
    """Done, pairs and a trajectory over a real tiny model: as many results as were asked for."""
    with Critic(engine) as critic:
        critic.close = lambda: None  # type: ignore[method-assign]  # the engine is shared by the tests
        assert len(critic.done(frames, TASK)) == 7
        pairs = list(itertools.pairwise(frames))
        assert len(critic.critic(pairs, TASK, rich=True, reference=frames, ref_num=2)) == 6
        assert len(critic.trajectory(frames, TASK, options=TrajectoryOptions(skip=4)).values) == 3
