"""Fine-tuning on ms-swift: from a demonstration file to a checkpoint that loads, in full, as an adapter, resumed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from evo_vlac.checkpoint import inspect
from evo_vlac.cli.finetune import parse_shares
from evo_vlac.cli.main import main
from evo_vlac.datasets import Trajectory
from evo_vlac.datasets.hdf5 import Hdf5Writer
from evo_vlac.errors import CheckpointError, DatasetError, OptionError, OutputError, TrainingError
from evo_vlac.tiny.model import TinyConfig, build_tiny_vlac
from evo_vlac.training.finetune import FinetuneConfig, finetune, swift_arguments
from evo_vlac.training.pairs import PairConfig, Shares
from evo_vlac.training.training_set import build_training_set

SMALL = TinyConfig(vision_hidden=32, vision_layers=1, vision_mlp=32, text_hidden=32, text_layers=1, text_mlp=32)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_vlac(tmp_path_factory.mktemp("base"), SMALL)


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demos") / "d.h5"
    with Hdf5Writer(path, "Lift", "lift the red cube") as writer:
        for seed in range(4):
            frames = np.full((10, 112, 112, 3), 30 * seed, np.uint8)
            dones = tuple(i >= (7 if seed % 2 else 99) for i in range(10))
            kind = "success" if seed % 2 else "failure"
            writer.write(
                Trajectory(
                    f"{seed}", "lift the red cube", frames, dones=dones, success=any(dones), kind=kind, seed=seed
                )
            )
    return path


def config(base: Path, demos: Path, output: Path, **changes: object) -> FinetuneConfig:
    fields = {"pairs": PairConfig(count=24), "steps": 3, "batch_size": 4, "threads": 1, "workers": 0, "save_steps": 2}
    return FinetuneConfig(base, output, demos=(demos,), **{**fields, **changes})  # type: ignore[arg-type]


def test_training_set_is_ms_swifts_format(demos: Path, tmp_path: Path) -> None:
    """Each line is a chat whose pictures exist, as many as its question needs; the summary counts them."""
    from PIL import Image

    made = build_training_set(
        [demos], tmp_path / "pairs", PairConfig(count=60, shares=Shares(reference=0.1, think=0.1))
    )
    lines = [json.loads(line) for line in made.jsonl.read_text().splitlines()]
    assert len(lines) == made.pairs == 60 == sum(made.kinds.values())
    for line in lines:
        roles = [message["role"] for message in line["messages"]]
        assert roles == ["system", "user", "assistant"]
        assert line["messages"][1]["content"].count("<image>") == len(line["images"])
        assert all(Image.open(path).size == (112, 112) for path in line["images"])
    assert json.loads((tmp_path / "pairs" / "summary.json").read_text())["pairs"] == 60


def test_full_training(base: Path, demos: Path, tmp_path: Path) -> None:
    """A full training ends in a checkpoint that loads and differs from its base; it is not started over by accident."""
    from safetensors.torch import load_file

    seen: list[tuple[int, int]] = []
    out = tmp_path / "12:30, [new] run#2"  # ms-swift and datasets read patterns and counts in names
    first = finetune(config(base, demos, out, tuner="full", learning_rate=1e-3), lambda a, b, _: seen.append((a, b)))
    assert first.steps == 3 and seen[0] == (1, 3)
    inspect(first.final)
    before, after = load_file(base / "model.safetensors"), load_file(first.final / "model.safetensors")
    assert before.keys() == after.keys() and any(not before[k].equal(after[k]) for k in before)
    with pytest.raises(OutputError, match="earlier training"):
        finetune(config(base, demos, out))


@pytest.mark.slow
def test_resume(base: Path, demos: Path, tmp_path: Path) -> None:
    """A training goes on from its last checkpoint to more steps, on the pairs it had."""
    out = tmp_path / "out"
    finetune(config(base, demos, out, tuner="full", learning_rate=1e-3))
    pairs = (out / "pairs" / "train.jsonl").read_bytes()
    again = finetune(config(base, demos, out, tuner="full", learning_rate=1e-3, steps=5, resume=True))
    assert again.steps == 5 and min(step for step, _ in again.losses) > 3
    assert (out / "pairs" / "train.jsonl").read_bytes() == pairs
    assert json.loads((out / "finetune.json").read_text())["config"]["steps"] == 5


@pytest.mark.slow
def test_lora_writes_an_adapter(base: Path, demos: Path, tmp_path: Path) -> None:
    """LoRA ends in an adapter, with no copy of the base."""
    result = finetune(config(base, demos, tmp_path / "out", tuner="lora", steps=2))
    names = {path.name for path in result.final.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names and "model.safetensors" not in names


@pytest.mark.slow
def test_judged_before_and_after(base: Path, demos: Path, tmp_path: Path) -> None:
    """With held-out files the command writes figures of the base and of what training made of it."""
    asked = [
        "finetune",
        "--model",
        str(base),
        "--output",
        str(tmp_path / "o"),
        "--demos",
        str(demos),
        "--heldout",
        str(demos),
    ]
    assert main([*asked, "--steps", "2", "--pairs", "8", "--batch-size", "4", "--threads", "1", "--json"]) == 0
    figures = json.loads((tmp_path / "o" / "heldout.json").read_text())
    assert figures["before"]["episodes"] == figures["after"]["episodes"] == 4


def test_a_failed_training_says_why(base: Path, demos: Path, tmp_path: Path) -> None:
    """What ms-swift said last is in the error, and no result folder is left."""
    with pytest.raises(TrainingError, match="no_such_option"):
        finetune(config(base, demos, tmp_path / "out", extra=("--no_such_option", "1")))
    assert not (tmp_path / "out" / "final").exists()


def test_a_full_disk_is_told_with_the_logs_name(base: Path, demos: Path, tmp_path: Path) -> None:
    """The child goes on talking, and nobody can write that down."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "training.log").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"training.log cannot be written: No space left on device"):
        finetune(config(base, demos, tmp_path / "out", extra=("--no_such_option", "1")))


def test_an_interpreter_that_is_gone_is_no_full_disk(
    base: Path, demos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "no python"))
    with pytest.raises(TrainingError, match=r"swift sft cannot be started: .*no python"):
        finetune(config(base, demos, tmp_path / "out"))


def test_bad_bases_are_named(base: Path, demos: Path, tmp_path: Path) -> None:
    """Nothing there, broken JSON, another architecture, no weights."""

    def refused(message: str, model: Path = tmp_path) -> None:
        with pytest.raises(CheckpointError, match=message):
            finetune(config(model, demos, tmp_path / "out"))

    refused("no such folder", tmp_path / "none")
    refused(r"config\.json is missing")
    (tmp_path / "config.json").write_text("{")
    refused("cannot be read as JSON")
    (tmp_path / "config.json").write_text('{"architectures": ["InternVLChatModel"], "force_image_size": 448}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    refused("InternVLChatModel")
    (tmp_path / "config.json").write_text((base / "config.json").read_text())
    (tmp_path / "model.safetensors").unlink()
    refused("no weights")


def test_options_are_checked(base: Path, demos: Path, tmp_path: Path) -> None:
    """Each option out of range names itself."""
    for change, message in (
        ({"tuner": "qlora"}, "allowed: lora, full"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"learning_rate": 3.0}, r"learning_rate is 3\.0"),
        ({"steps": 0, "epochs": 0}, "one of them must be over 0"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"dataset": demos}, "one of the two"),
    ):
        with pytest.raises(OptionError, match=message):
            config(base, demos, tmp_path, **change)
    with pytest.raises(DatasetError, match="no such dataset"):
        finetune(FinetuneConfig(base, tmp_path / "out", dataset=tmp_path / "none.jsonl"))
    for change in ({"play": (demos,)}, {"pairs": PairConfig(label_free=True)}):
        with pytest.raises(OptionError, match=r"about demos; a ready JSONL \(dataset\) has its labels"):
            FinetuneConfig(base, tmp_path, dataset=demos, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("began_label_free", [False, True])
def test_a_resumed_training_keeps_its_kind_of_labels(
    base: Path, demos: Path, tmp_path: Path, began_label_free: bool
) -> None:
    began, other = (PairConfig(count=24, label_free=free) for free in (began_label_free, not began_label_free))
    build_training_set([demos], tmp_path / "pairs", began)
    how = "without" if began_label_free else "with"
    with pytest.raises(OptionError, match=f"pairs holds pairs drawn {how} labels"):
        finetune(config(base, demos, tmp_path, pairs=other, resume=True))


def test_vision_learns_only_when_asked(base: Path, demos: Path, tmp_path: Path) -> None:
    """``train_vision`` unfreezes tower and projector; otherwise both stay."""
    for wanted in (True, False):
        arguments = swift_arguments(config(base, demos, tmp_path, train_vision=wanted), demos, None)
        assert arguments[arguments.index("--freeze_vit") + 1] == ("false" if wanted else "true")


def test_command_line_errors_are_one_line(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file ends with code 2 and a line that names it."""
    code = main(
        ["finetune", "--model", str(base), "--output", str(tmp_path / "o"), "--demos", str(tmp_path / "none.h5")]
    )
    error = capsys.readouterr().err
    assert code == 2 and "none.h5" in error and error.count("\n") == 1


def test_shares_on_the_command_line() -> None:
    """Named kinds change, the others keep their weight; unknown ones are refused."""
    shares = parse_shares("done:0.9, describe:0")
    assert (shares.done, shares.describe, shares.critic) == (0.9, 0.0, 0.2)
    with pytest.raises(OptionError, match="'value' is unknown"):
        parse_shares("value:1")
    with pytest.raises(OptionError, match="KIND:NUMBER"):
        parse_shares("done:x")
