"""Every command that a page shows exists: its file or module, its sub-command, its options, its keys."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from evo_vlac.cli.main import build_parser
from sidecar.config_file import load
from studies.docs_walk import commands, pages
from tests.support.launching import ROOT
from verl.trainer.load_config import load_config

THEIRS = ("examples/overwrite_vla_ckpt_utils.sh",)  # SimpleVLA-RL's
OTHERS = ("pip", "venv", "pytest")  # modules that are not ours
SHOWN = sorted({text for page in pages() for _, text in commands(page)} - set(THEIRS))


def words(command: str) -> list[str]:
    """Without what stands for something else (``...``, ``[key=value ...]``), and without assignments in front."""
    parts = shlex.split(re.sub(r"\[[^\]]*\]|\.\.\.", "", command))
    while parts and re.fullmatch(r"[A-Z_]+=.*", parts[0]):
        parts.pop(0)
    return parts


def named(parts: list[str]) -> tuple[Path | None, list[str]]:
    """The file that a command runs, where it is one of ours, and the command's arguments."""
    if parts[:2] == ["python", "-m"]:
        module, arguments = parts[2], parts[3:]
        if module in OTHERS:
            return None, arguments
        found = importlib.util.find_spec(module)
        assert found is not None, f"no module {module}"
        if found.submodule_search_locations:
            found = importlib.util.find_spec(f"{module}.__main__")
            assert found is not None, f"{module} is no command"
        assert found.origin is not None
        return Path(found.origin), arguments
    if parts[0] == "python" or parts[0].startswith(("./", "examples/", "tests/")):
        script = ROOT / (parts[1] if parts[0] == "python" else parts[0])
        assert script.is_file(), f"no file {script}"
        return script, parts[2:] if parts[0] == "python" else parts[1:]
    return None, parts[1:]


def assigned(arguments: list[str]) -> list[str]:
    """``key=value`` of the arguments that stand for themselves."""
    return [one for one in arguments if re.fullmatch(r"[a-z_.]+=[^=$<]+", one) and one != "key=value"]


@pytest.mark.parametrize("command", SHOWN)
def test_a_command_of_the_pages_exists(command: str) -> None:
    """What a reader copies is not refused for its spelling."""
    parts = words(command)
    script, arguments = named(parts)
    options = [one.partition("=")[0] for one in arguments if re.match(r"--[a-z]", one)]
    if parts[:3] == ["python", "-m", "evo_vlac"]:
        of_evo_vlac(arguments, options)
    elif script is not None and script.suffix == ".py":
        folder = script.parent.rglob("*.py") if script.name == "__main__.py" else [script]
        source = "".join(file.read_text() for file in folder)
        assert [one for one in options if f'"{one}"' not in source and one != "--help"] == []
    if parts[:3] == ["python", "-m", "sidecar"]:
        load(None, ["run_id=x", "model=x", *assigned(arguments)])
    elif "launch.sh" in parts[0] or parts[2:3] == ["verl.trainer.main_ppo"]:
        load_config(assigned(arguments))


def of_evo_vlac(arguments: list[str], options: list[str]) -> None:
    """Sub-commands, ``done|critic`` too, and their options."""
    sub = next(one for one in build_parser()._actions if isinstance(one, argparse._SubParsersAction))
    for name in arguments[0].split("|"):
        if name in ("COMMAND", ""):
            continue
        assert name in sub.choices
        assert [one for one in options if one not in sub.choices[name]._option_string_actions] == []
