"""The launcher as a user meets it: it runs, survives, can be stopped, says what is wrong, and leaves nothing."""

from __future__ import annotations

import json
import signal
import time

import pytest

from shm_bridge import BridgeError, Controller
from tests.project.launching import QUICK, ROOT, SCRIPTED, Launched

pytestmark = pytest.mark.timeout(240)


def test_one_command_trains_and_shows_what_it_did(tmp_path):
    """Sidecar with the shipped critic, policy, training, evaluation: everything promised is in the run's folder."""
    launched = Launched(tmp_path, QUICK)
    assert launched.wait() == 0, launched.text()
    summary = json.loads((launched.run / "summary.json").read_text())
    for key in ("success_before", "success_after", "wall_s", "verdict_p50_ms", "verdict_p99_ms", "critic_precision"):
        assert key in summary
    assert summary["episodes"] == 2 and summary["updates"] == 1 and summary["verdicts"] > 2
    for name in ("metrics.jsonl", "curves.png", "config.yaml", "checkpoints/last/policy/config.json"):
        assert (launched.run / name).stat().st_size > 0
    assert any((launched.run / "tensorboard").iterdir())
    assert len(list((launched.run / "videos").glob("*.mp4"))) == 3
    assert (tmp_path / "latest").resolve() == launched.run
    assert "success by simulator, after" in launched.text()
    assert launched.leftovers() == []


def test_a_killed_sidecar_is_replaced_and_training_goes_on(tmp_path):
    """kill -9 of the service in mid-rollout: its supervisor starts another, no episode is lost, the run ends well."""
    slow = [*SCRIPTED, "critic.sidecar.config.fixed.delay_ms=60", "critic.sidecar.config.fixed.done_at_step=40"]
    launched = Launched(tmp_path, [*QUICK, *slow, "trainer.total_episodes=8", "trainer.val_before_train=false"])
    launched.wait_for("ready after")
    launched.service().kill()
    assert launched.wait() == 0, launched.text()
    assert json.loads((launched.run / "summary.json").read_text())["episodes"] == 8
    assert launched.leftovers() == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_real_critic_killed_in_mid_training_answers_again(tmp_path, record_property, capsys):
    """kill -9 of the service with the shipped critic in it: the next one answers, the run ends well, nothing is left.

    The time from the kill to the next one's first verdict is printed and recorded; on a busy machine the processor
    seconds that the next one had used by then say more.
    """
    launched = Launched(tmp_path, [*QUICK, "trainer.total_episodes=8", "trainer.val_before_train=false"])
    launched.wait_for("ready after")
    with Controller.connect(launched.mark, 10) as controller:
        launched.until(lambda: controller.status()["verdicts"] > 8)
        launched.service().kill()
        killed = time.monotonic()
    seconds: dict[str, float] = {}
    for stage, reached in (("ready", lambda s: s["ready"]), ("verdict", lambda s: s["verdicts"] > 0)):
        launched.until(lambda wanted=reached: (s := status(launched.mark))["epoch"] == 2 and wanted(s))
        seconds[f"kill_to_{stage}_s"] = round(time.monotonic() - killed, 1)
    spent = launched.service().cpu_times()
    seconds["its_processor_s"] = round(spent.user + spent.system, 1)  # the time that it needs on a core of its own
    for name, value in seconds.items():
        record_property(name, value)
    with capsys.disabled():
        print(f"\n{seconds}")
    assert launched.wait(300) == 0, launched.text()
    assert json.loads((launched.run / "summary.json").read_text())["episodes"] == 8
    assert launched.leftovers() == []


def status(run_id):
    """What the run's sidecar says of itself; epoch 0 while there is none."""
    try:
        with Controller.connect(run_id, 0.1) as controller:
            return controller.status()
    except BridgeError:
        return {"epoch": 0}


def test_ctrl_c_stops_everything(tmp_path):
    """Interrupted in mid-rollout: exit code 130, nothing left."""
    launched = Launched(tmp_path, [*QUICK, *SCRIPTED, "trainer.total_episodes=10000"])
    launched.wait_for("rollout:")
    launched.process.send_signal(signal.SIGINT)
    assert launched.wait(60) == 130, launched.text()
    assert launched.leftovers() == []


def test_a_sidecar_that_cannot_start_ends_the_run_with_its_own_words(tmp_path):
    """A wrong key of the sidecar's: its message and its log's path are on the screen."""
    launched = Launched(tmp_path, [*QUICK, "critic.sidecar.config.enginee=swift", "critic.ready_timeout_s=60"])
    assert launched.wait() == 1
    assert "enginee" in launched.text() and str(launched.run / "logs") in launched.text()
    assert launched.leftovers() == []


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.n_smaples=3", ("data.n_smaples", "data.n_samples")),
        ("actor_rollout_ref.model.path=nowhere", ("actor_rollout_ref.model.path=nowhere", "no such folder")),
        ("env.tasks=[Fly]", ("Fly", "Lift")),
        ("actor_rollout_ref.rollout.unnorm_key=bridge", ("unnorm_key=bridge", "robosuite_lift")),
        ("critic.sidecar.config.model=docs", ("critic.sidecar.config.model=docs", "config.json")),
    ],
)
def test_a_mistake_is_told_in_one_line_before_anything_starts(tmp_path, override, words):
    """Exit code 2, one line that names the thing and what is allowed."""
    launched = Launched(tmp_path, [override], module="verl.trainer.main_ppo")
    assert launched.wait(60) == 2, launched.text()
    message = launched.text().strip()
    assert "\n" not in message and message.startswith("error: ")
    for word in words:
        assert word in message
    assert launched.leftovers() == [] and not launched.run.exists()


def test_a_run_id_is_not_used_twice(tmp_path):
    """The folder of an earlier run is never written over."""
    first = Launched(tmp_path, [], module="verl.trainer.main_ppo", mark="twice")
    first.process.kill()
    first.process.wait()
    first.run.mkdir(exist_ok=True)
    (first.run / "metrics.jsonl").write_text("{}\n")
    again = Launched(tmp_path, [], module="verl.trainer.main_ppo", mark="twice")
    assert again.wait(60) == 2
    assert "trainer.run_id=twice" in again.text()


def test_the_readme_names_commands_that_exist():
    """launch.sh and tests/run.sh are executable, and the README says them."""
    readme = (ROOT / "README.md").read_text()
    for command in ("launch.sh", "tests/run.sh"):
        assert command in readme
        assert (ROOT / command).stat().st_mode & 0o111
