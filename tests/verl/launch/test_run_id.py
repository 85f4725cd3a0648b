"""The launcher knows the run id that the trainer will use: it claims it, and cleans up by it."""

from __future__ import annotations

import pytest

from verl.launch.__main__ import _given_run_id


@pytest.mark.parametrize("how", [lambda file: ["--config", file], lambda file: [f"--config={file}"]])
def test_it_may_stand_in_the_configuration_file(tmp_path, how):
    file = tmp_path / "run.yaml"
    file.write_text("trainer:\n  run_id: from-file\n")
    assert _given_run_id([*how(str(file)), "data.seed=1"]) == "from-file"
    assert _given_run_id([*how(str(file)), "trainer.run_id=here"]) == "here"


@pytest.mark.parametrize("text", ["", "trainer: 3", "data:\n  seed: 1\n", "{", "trainer:\n  run_id: null\n"])
def test_a_file_without_one_gives_none(tmp_path, text):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    assert _given_run_id(["--config", str(file)]) is None
    assert _given_run_id(["--config", str(tmp_path / "nowhere")]) is None and _given_run_id(["data.seed=1"]) is None


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("run_id", ["mine", "007", "2026-11-26"])
def test_files_of_other_systems_and_names_like_numbers(tmp_path, encoding, run_id):
    """The trainer reads them so; another id here would win over the file's."""
    file = tmp_path / "run.yaml"
    file.write_bytes(f"# für mich\r\ntrainer:\r\n  run_id: {run_id}\r\n".encode(encoding))
    assert _given_run_id(["--config", str(file)]) == run_id
    assert _given_run_id(["++trainer.run_id=here"]) == "here"
