"""Every command with paths as people have them: relative, and with what means something to a shell or a parser."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import evo_vlac.cli.convert as convert_command
import evo_vlac.swift_engine as swift_engine
import evo_vlac.training.finetune as training
from evo_vlac.cli.main import main
from evo_vlac.convert.checkpoint import Report
from evo_vlac.datasets import Trajectory
from evo_vlac.datasets.hdf5 import Hdf5Writer
from evo_vlac.video import write_video
from tests.evo_vlac.conftest import ChosenEngine
from tests.evo_vlac.datasets.lerobot_sets import films3

FRAMES = [np.full((32, 48, 3), i * 20, np.uint8) for i in range(7)]
ODD = [
    "12:30:05",
    "C:\\new\\table",
    "Daten (neu), 2",
    "Müller 模型",
    "[new]",
    "epoch=3-step=100",
    "~backup",
    "run#2 50%d",
    'it\'s "x"',
    "a;b&c|d {1} $HOME",
    "data:image",
    "concat:a",
]


@pytest.fixture(params=ODD)
def odd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name; the working folder has a folder of that name with a film, a picture and datasets of that name."""
    name = str(request.param)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(swift_engine, "SwiftEngine", lambda *_, **__: ChosenEngine(lambda _: "1"))
    write_video(tmp_path / name / f"{name}.mp4", FRAMES, 5)
    Image.fromarray(FRAMES[0]).save(tmp_path / name / f"{name}.png")
    (tmp_path / name / "films").mkdir()
    shutil.copy(tmp_path / name / f"{name}.mp4", tmp_path / name / "films" / f"{name}.mp4")
    (tmp_path / name / "films" / f"{name}.txt").write_text("lift it")
    with Hdf5Writer(tmp_path / name / f"{name}.h5", "Lift", "lift it") as writer:
        for success in (True, False):
            flags = (*[False] * 6, success)
            writer.write(Trajectory("x", "lift it", np.stack(FRAMES), dones=flags, success=success))
    films3(tmp_path / name / "robot", 1)
    return name


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code = main([*arguments, "--json"])
    told = capfd.readouterr()
    assert code == 0, told.err
    return json.loads(told.out)


def test_of_films_and_pictures(odd: str, capfd: pytest.CaptureFixture[str]) -> None:
    """What is read, and what is written."""
    film, picture, out = f"{odd}/{odd}.mp4", f"{odd}/{odd}.png", f"{odd}/out/{odd}"
    written = ["--video", f"{out}.mp4", "--picture", f"{out}.png", "--output", f"{out}.json"]
    found = run(capfd, "critic", film, "--task", "t", "--skip", "3", "--reference", film, "--done", *written)
    assert found["source"] == film and json.loads(Path(f"{out}.json").read_text())["source"] == film
    assert all(Path(f"{out}{suffix}").stat().st_size > 99 for suffix in (".mp4", ".png"))
    assert len(run(capfd, "done", film, "--task", "t", "--reference", film)["images"]) == 7
    assert len(run(capfd, "done", picture, "--goal", picture)["images"]) == 1
    assert run(capfd, "describe", film)["task"] == "1"
    assert run(capfd, "ask", picture, "--question", "what?")["answer"] == "1"
    run(capfd, "action", picture, "--task", "t", "--state", *"1234567")


@pytest.mark.parametrize("dataset", ["films", "robot", "{}.h5", "{}.mp4"])
def test_of_datasets(odd: str, dataset: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Of every layout, with the report."""
    path, out = f"{odd}/{dataset.format(odd)}", f"{odd}/out {odd}"
    task = ["--task", "lift it"] if dataset == "{}.mp4" else []
    found = run(capfd, "screen", path, "--skip", "3", "--no-reverse", "--output", out, *task)
    assert found["dataset"] == path and found["skipped"] == [] and len(found["trajectories"]) >= 1
    assert f"{found['kept']} of {len(found['trajectories'])}" in Path(out, "report.html").read_text(encoding="utf-8")
    assert run(capfd, "evaluate", path, "--skip", "3", "--no-one-shot", "--output", f"{out}/e.json", *task)["zero_shot"]
    assert run(capfd, "critic", path, "--skip", "3", *task)["task"] == "lift it"


def test_of_training(
    odd: str, capfd: pytest.CaptureFixture[str], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base, the demonstrations and the output; ms-swift is handed absolute paths, since ``#`` and ``:`` mean
    something in its names of datasets that are not there."""

    def trained(config: training.FinetuneConfig, dataset: Path, *_: object) -> list[tuple[int, float]]:
        arguments = training.swift_arguments(config, dataset, None)
        for key in ("--model", "--dataset"):
            path = Path(arguments[arguments.index(key) + 1])
            assert path.is_absolute() and path.exists()
        (config.output / "training/checkpoint-1").mkdir(parents=True)
        return [(1, 0.5)]

    monkeypatch.setattr(training, "_train", trained)
    shutil.copytree(checkpoint, f"{odd}/base {odd}")
    output = f"{odd}/tuned {odd}"
    demos = [f"{odd}/{odd}.h5", f"{odd}/robot"]
    found = run(
        capfd, "finetune", "--model", f"{odd}/base {odd}", "--demos", *demos, "--output", output, "--pairs", "9"
    )
    assert found["final"] == f"{output}/final" and found["losses"] == [[1, 0.5]]
    lines = Path(output, "pairs/train.jsonl").read_text().splitlines()
    assert len(lines) == 9 and all(Path(image).is_file() for line in lines for image in json.loads(line)["images"])


def test_of_converting(odd: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is named arrives; the conversion itself has tests of its own."""
    seen: list[str] = []

    def made(source: str, target: str) -> Report:
        seen.extend((source, target))
        return Report(Path(target), 1, 1)

    monkeypatch.setattr(convert_command, "convert", made)
    assert run(capfd, "convert", f"{odd}/a", f"{odd}/b")["target"] == f"{odd}/b" and seen == [f"{odd}/a", f"{odd}/b"]
