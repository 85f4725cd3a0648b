"""The table for those who come from SimpleVLA-RL (docs/training.md) names only keys that exist and that are read."""

from __future__ import annotations

import dataclasses
import re

import pytest

from tests.support.launching import ROOT
from tests.verl.test_keys_are_read import KEYS, READ, YAML
from verl.envs.libero_env import LiberoConfig

GROUPS = ("data", "actor_rollout_ref", "env", "algorithm", "trainer", "critic")


def rows() -> list[tuple[str, str]]:
    """(theirs, ours) of each row."""
    section = (ROOT / "docs" / "training.md").read_text().partition("## Coming from SimpleVLA-RL")[2]
    found = re.findall(r"^\| (.*?) \| (.*) \|$", section, re.MULTILINE)
    return [row for row in found if row[0] != "SimpleVLA-RL"]


def named(cell: str) -> list[str]:
    """The keys in a cell, whole: a short one belongs to the group of the one before it."""
    keys: list[str] = []
    for quoted in re.findall(r"`([^`]+)`", cell):
        name = quoted.partition("=")[0]
        if "." in name and name.partition(".")[0] in GROUPS and not name.endswith("*"):
            keys.append(name)
        elif re.fullmatch(r"\.?[a-z_]+", quoted) and keys:
            above = keys[-1].rpartition(".")[0]
            groups = [above, above.rpartition(".")[0]]  # optim.lr, then grad_clip of actor
            keys.append(next((f"{g}.{name.lstrip('.')}" for g in groups if known(f"{g}.{name.lstrip('.')}")), name))
    return keys


def known(key: str) -> bool:
    """Whether the configuration has such a key, and something reads it."""
    if key.startswith("env."):
        return key.removeprefix("env.") in {field.name for field in dataclasses.fields(LiberoConfig)} | {
            "num_images_in_input",
            "use_proprio",
        }
    by_another = re.search(r"\$\{" + re.escape(key) + r"\}", YAML)
    return any(key == name and ((kind, field) in READ or by_another) for name, kind, field in KEYS)


ROWS = rows()


@pytest.mark.parametrize("row", ROWS, ids=[theirs[:40] for theirs, _ in ROWS])
def test_a_row_names_keys_that_are_read(row: tuple[str, str]) -> None:
    """On the right always; on the left where the right says that it is the same."""
    theirs, ours = row
    keys = named(ours) + (named(theirs) if ours.startswith("the same") else [])
    keys = [key for key in keys if not key.startswith("critic.")]
    assert [key for key in keys if not known(key)] == []


def test_the_table_says_what_was_once_another_thing() -> None:
    """The keys whose meaning, unit or default differed."""
    named_here = {key for _, ours in ROWS for key in named(ours)} | {key for theirs, _ in ROWS for key in named(theirs)}
    optim = "actor_rollout_ref.actor.optim"
    assert {"algorithm.loss_agg_mode", f"{optim}.eps", f"{optim}.lora_lr", "env.max_steps"} <= named_here
