"""The launcher as a user meets it: it runs, survives, can be stopped, says what is wrong, and leaves nothing."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
import ray

from shm_bridge import BridgeError, Controller
from tests.support.launching import QUICK, ROOT, SCRIPTED, Launched

pytestmark = pytest.mark.timeout(240)
RAY = Path(ray._common.utils.get_default_ray_temp_dir())
SUBREAPER = """
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1)
subprocess.Popen(sys.argv[1:])
while True:
    os.wait()
"""


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


@pytest.mark.timeout(480)
def test_a_second_launch_of_a_living_run_is_refused_and_changes_nothing(tmp_path):
    """In the same folder, also to resume it, or in another folder (the run's shared memory is the same): exit code 2.

    The first goes on: no row is cut, no checkpoint is lost. At its end Ray's session folder is gone, too.
    """
    long = [
        *QUICK,
        *SCRIPTED,
        "env.name=tests.verl.envs.dot_env:DotEnv",
        "env.max_steps=24",
        "trainer.videos=0",
        "trainer.total_episodes=10000",
        "trainer.save_freq=1",
        "trainer.test_freq=-1",
        "trainer.val_before_train=false",
        "trainer.logger=[console]",
        "critic.audit_min_precision=0",
    ]
    first = Launched(tmp_path, long)
    log = first.run / "episodes.jsonl"
    first.until(lambda: (first.run / "checkpoints" / "last").exists() and log.stat().st_size > 0, 240)
    (trainer,) = [p.pid for p in first.processes() if "verl.trainer.main_ppo" in p.cmdline()]
    rows = log.read_text()
    for folder, module, more in (
        (tmp_path, "verl.launch", ["trainer.resume_mode=auto"]),
        (tmp_path, "verl.trainer.main_ppo", ["trainer.resume_mode=auto"]),
        (tmp_path / "other", "verl.launch", []),
    ):
        folder.mkdir(exist_ok=True)
        second = Launched(folder, [*long, *more], module, first.mark)
        assert second.wait(60) == 2, second.text()
        assert f"trainer.run_id={first.mark} is in use: process {first.process.pid} (" in second.text()
    assert first.process.poll() is None and log.read_text().startswith(rows)
    first.process.send_signal(signal.SIGINT)
    assert first.wait(60) == 130, first.text()
    episodes = [json.loads(line)["episode"] for line in log.read_text().splitlines()]
    assert sorted(episodes) == list(range(len(episodes)))
    assert first.leftovers() == [] and not list(RAY.glob(f"session_*_{trainer}"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_outlives_a_killed_launcher_and_trainer_below_a_foreign_subreaper(tmp_path):
    """As under ``tini -s`` or ``systemd --user``: all ends within seconds, and the run can be resumed at once."""
    arguments = [
        *QUICK,
        *SCRIPTED,
        "env.name=tests.verl.envs.dot_env:DotEnv",
        "env.max_steps=24",
        "trainer.videos=0",
        "trainer.total_episodes=40",
        "trainer.save_freq=1",
        "trainer.test_freq=-1",
        "critic.audit_min_precision=0",
        "trainer.val_before_train=false",
    ]
    first = Launched(tmp_path, arguments, below=SUBREAPER)
    first.until(lambda: (first.run / "checkpoints" / "last").exists(), 240)
    below = [p for p in first.processes() if p.pid != first.process.pid]
    (launcher,) = [p for p in below if "verl.launch" in p.cmdline()]
    (trainer,) = [p for p in below if "verl.trainer.main_ppo" in p.cmdline()]
    launcher.kill()
    trainer.kill()
    resumed = Launched(tmp_path, [*arguments, "trainer.resume_mode=auto"], mark=first.mark)
    assert resumed.wait(240) == 0, resumed.text()
    rows = [json.loads(line) for line in (resumed.run / "episodes.jsonl").read_text().splitlines()]
    assert sorted(row["episode"] for row in rows if row["training"]) == list(range(40))
    first.process.kill()  # the subreaper
    first.process.wait(10)
    assert resumed.leftovers() == [] and not list(RAY.glob(f"session_*_{trainer.pid}"))


@pytest.mark.slow
def test_a_killed_part_of_ray_ends_the_run_with_a_line_that_says_so(tmp_path):
    """Ray's C++ code then calls ``exit``: the launcher says what the trainer could not."""
    launched = Launched(tmp_path, [*QUICK, *SCRIPTED, "trainer.total_episodes=10000"])
    launched.wait_for("ready after")
    (gcs,) = [p for p in launched.processes() if p.name() == "gcs_server"]
    gcs.kill()
    assert launched.wait(200) == 1
    assert "error: " in launched.text() and "Traceback" not in launched.text()
    log = (launched.run / "logs" / "driver.log").read_text()
    assert "ended without a word" in log or "the run failed" in log
    assert launched.leftovers() == []


def test_a_sidecar_that_cannot_start_ends_the_run_with_its_own_words(tmp_path):
    """What only the sidecar's start shows, a log that cannot be written: its message and its log's path are on the
    screen."""
    launched = Launched(tmp_path, [*QUICK, "critic.sidecar.config.log.file=/proc/x/log", "critic.ready_timeout_s=60"])
    assert launched.wait() == 1
    assert "log.file=/proc/x/log" in launched.text() and str(launched.run / "logs") in launched.text()
    assert launched.leftovers() == []


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.n_smaples=3", ("data.n_smaples", "data.n_samples")),
        ("actor_rollout_ref.model.path=nowhere", ("actor_rollout_ref.model.path=nowhere", "no such folder")),
        ("env.tasks=[Fly]", ("Fly", "Lift")),
        ("actor_rollout_ref.rollout.unnorm_key=bridge", ("unnorm_key=bridge", "robosuite_lift")),
        ("critic.sidecar.config.model=docs", ("critic.sidecar.config.model=docs", "config.json")),
        (
            "critic.sidecar.config.enginee=swift",
            ("critic.sidecar.config.enginee: unknown key", "you mean critic.sidecar.config.engine"),
        ),
        ("critic.sidecar.config.batch.max_size=0", ("critic.sidecar.config.batch.max_size=0", "1 to 4096")),
        ("critic.threshold=1", ("critic.threshold=1.0", "0 <= threshold < 1")),
        ("critic.sidecar.python=/nowhere/python", ("critic.sidecar.python=/nowhere/python", "cannot be run")),
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
