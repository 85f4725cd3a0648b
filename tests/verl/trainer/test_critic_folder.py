"""What a critic's folder asks for: taken for that critic alone, and less than anything a user says."""

from __future__ import annotations

import pytest
import yaml

from verl.errors import ConfigError
from verl.trainer import main_ppo
from verl.trainer.critic_folder import critic_rules, in_force
from verl.trainer.load_config import CONFIG_FOLDER, load_config

HOLD = {"hold": {"value": 4, "why": "its single dones are early"}}


def rule(*overrides, file=None):
    """(hold, mode of values) of the resolved configuration."""
    config, _ = load_config(list(overrides), file)
    return config.critic.hold, config.critic.sidecar.config["values"]["mode"]


@pytest.fixture
def critic(tmp_path):
    """A folder of a critic, as an override, that says ``content``."""

    def make(content):
        (tmp_path / "critic.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return f"critic.sidecar.config.model={tmp_path}"

    return make


def test_the_tiny_critics_deviations_are_its_own():
    """The default asks it for three dones and mix_f, each with a reason; any other model gets the plain rule."""
    _, tree = load_config([])
    assert rule() == (3, "mix_f")
    assert {r.key for r in in_force(tree)} == {"critic.hold", "critic.sidecar.config.values.mode"}
    assert all(len(r.why) > 20 and "models/vlac-tiny/critic.yaml" in str(r) for r in in_force(tree))
    assert rule("critic.sidecar.config.model=models/VLAC-2B") == (1, "relative")
    assert rule("critic.sidecar.config.engine=openai") == (1, "relative"), "another server answers"


@pytest.mark.parametrize("text", ["critic.hold=1", "++critic.hold=1", "critic.hold=2"])
def test_what_the_user_sets_wins_even_when_it_is_the_plain_rule(text, tmp_path):
    """On the command line and in a file; keys that were not set keep what the model's folder says."""
    wanted = int(text[-1])
    assert rule(text) == (wanted, "mix_f")
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"critic": {"hold": wanted, "sidecar": {"config": {"values": {"mode": "mirror"}}}}}))
    assert rule(file=str(file)) == (wanted, "mirror")
    assert rule("critic.hold=5", file=str(file)) == (5, "mirror")


def test_a_preset_comes_after_the_models_folder(monkeypatch, tmp_path):
    """hardware=X that sets a key of the folder's keeps it, in the order of the layers."""
    folder = tmp_path / "config"
    (folder / "hardware").mkdir(parents=True)
    (folder / "env").symlink_to(CONFIG_FOLDER / "env")
    (folder / "ppo_trainer.yaml").symlink_to(CONFIG_FOLDER / "ppo_trainer.yaml")
    (folder / "hardware" / "mine.yaml").write_text("# @package _global_\ncritic: {hold: 1}\n")
    monkeypatch.setattr("verl.trainer.load_config.CONFIG_FOLDER", folder)
    assert rule("hardware=mine") == (1, "mix_f") and rule("hardware=mine", "critic.hold=7") == (7, "mix_f")


def test_the_folder_of_whichever_critic_is_named_counts(critic, tmp_path):
    """Also when a file names it; a removed key is not brought back."""
    named = critic(HOLD)
    assert rule(named) == (4, "relative") and rule(named, "critic.hold=1") == (1, "relative")
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"critic": {"sidecar": {"config": {"model": str(tmp_path)}}}}))
    assert rule(file=str(file)) == (4, "relative")
    assert rule() == (3, "mix_f"), "nothing of it is left for the next configuration"
    config, _ = load_config(["~critic.sidecar.config.values"])
    assert "values" not in config.critic.sidecar.config


def test_a_critic_has_a_threshold_of_its_own_for_each_instruction(critic):
    """As calibration found them; another instruction keeps the plain one, and the user's own list wins."""
    lines = [["lift the red cube", 0.8], ["lift the green cube", 0.35]]
    named = critic({"thresholds": {"value": lines, "why": "calibrated"}})
    found = load_config([named])[0].critic
    told = [found.rules_of(words).threshold for words in ("lift the red cube", "lift the green cube", "push")]
    assert told == [0.8, 0.35, 0.9]
    own = load_config([named, "critic.thresholds=[[lift the red cube, 0.5]]"])[0].critic
    assert own.rules_of("lift the red cube").threshold == 0.5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"hodl": {"value": 3, "why": "x"}}, "hodl: unknown key; allowed are threshold, hold"),
        ({"sidecar.python": {"value": "/bin/sh", "why": "x"}}, "sidecar.python: unknown key"),
        ({"hold": 3}, "hold=3: must be a mapping of value and why"),
        ({"hold": {"value": 3}}, "must be a mapping of value and why"),
        ({"hold": {"value": True, "why": "x"}}, "hold.value=True: allowed are a whole number from 1"),
        ({"threshold": {"value": 2, "why": "x"}}, "threshold.value=2: allowed are 0 to 1"),
        ({"thresholds": {"value": [["lift", 2]], "why": "x"}}, "thresholds.value=[['lift', 2]]: allowed are a list of"),
        ({"thresholds": {"value": [["lift"]], "why": "x"}}, "allowed are a list of [instruction, 0 to 1]"),
        ({"sidecar.config.values.mode": {"value": "mixed", "why": "x"}}, "allowed are relative, mirror, mix_f"),
        ({"hold": {"value": 3, "why": " "}}, "must say the reason"),
        ([1], "must hold a mapping"),
        ("hold: {", "critic.yaml"),
    ],
)
def test_a_mistake_in_the_file_names_file_key_and_what_is_allowed(critic, tmp_path, content, words):
    with pytest.raises(ConfigError) as caught:
        load_config([critic(content)])
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "critic.yaml")) and words in message and "\n" not in message


def test_a_run_says_what_it_took_from_the_models_folder(monkeypatch, tmp_path, capsys):
    """One line at the start, and the reasons on top of the resolved configuration, which stays a configuration."""
    monkeypatch.setattr(main_ppo, "_train", lambda *_: None)
    where = [f"trainer.default_local_dir={tmp_path}", "trainer.run_id=r", "critic.hold=2"]
    assert main_ppo.main(where) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "models/vlac-tiny/critic.yaml asks: critic.sidecar.config.values.mode=mix_f" in said and "hold" not in said
    written = tmp_path / "r" / "config.yaml"
    reason = "# critic.sidecar.config.values.mode=mix_f (from models/vlac-tiny/critic.yaml): a relative fall"
    assert reason in written.read_text()
    assert rule(file=str(written)) == (2, "mix_f")
    assert critic_rules(yaml.safe_load(written.read_text()))
