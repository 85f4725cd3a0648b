"""Conversion of published checkpoints: tensors land where they belong, nothing half-written, equal to the original.

The comparison with the published code needs an environment that runs it, and the code itself; it is slow and opt-in:

    EVO_VLAC_REFERENCE_PYTHON=.../bin/python EVO_VLAC_PUBLISHED_CODE=.../InternVL/internvl_chat/internvl \
        pytest tests/evo_vlac/convert/test_convert.py -m slow
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from safetensors import SafetensorError

from evo_vlac.cli.main import main
from evo_vlac.convert.checkpoint import convert
from evo_vlac.convert.config import full_config, text_config
from evo_vlac.convert.tokenizer import build_tokenizer
from evo_vlac.convert.weights import convert_tensor
from evo_vlac.errors import CheckpointError, EngineError, OutputError
from tests.evo_vlac.convert.published_checkpoint import write_settings


def test_interleaved_heads_are_taken_apart() -> None:
    """wqkv holds, per key/value head, its query heads, its key, its value: rows go to where attention looks for
    them."""
    heads, groups, size, hidden = 6, 2, 4, 5
    q, k, v = torch.randn(heads, size, hidden), torch.randn(groups, size, hidden), torch.randn(groups, size, hidden)
    per = heads // groups
    rows = torch.cat([torch.cat([q[g * per : (g + 1) * per], k[g : g + 1], v[g : g + 1]]) for g in range(groups)])
    name = "language_model.model.layers.3.attention.wqkv.weight"
    found = dict(convert_tensor(name, rows.reshape(-1, hidden), heads, groups))
    prefix = "language_model.model.layers.3.self_attn."
    for letter, wanted in (("q", q), ("k", k), ("v", v)):
        assert torch.equal(found[f"{prefix}{letter}_proj.weight"], wanted.reshape(-1, hidden))


def test_stacked_vision_heads_are_taken_apart() -> None:
    """qkv rows are all queries, all keys, all values."""
    bias = torch.arange(12.0)
    found = dict(convert_tensor("vision_model.encoder.layers.0.attn.qkv.bias", bias, 1, 1))
    assert [v.tolist() for v in found.values()] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


@pytest.mark.parametrize(
    "name",
    [
        "x",
        "vision_model.encoder.layers.0.attn.x",
        "language_model.model.layers.0.attention.x.weight",
        "mlp1.7.weight",
    ],
)
def test_unknown_tensors_are_refused(name: str) -> None:
    """Nothing is dropped silently."""
    with pytest.raises(CheckpointError, match="does not know"):
        list(convert_tensor(name, torch.zeros(1), 1, 1))
    assert (
        list(convert_tensor("language_model.model.layers.0.attention.rotary_emb.inv_freq", torch.zeros(1), 1, 1)) == []
    )


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published checkpoint's configuration and tokenizer, without its code and weights."""
    return write_settings(tmp_path_factory.mktemp("published") / "vlac")


def test_the_tokenizer_keeps_every_id(settings: Path) -> None:
    """Special tokens at their own ids, a beginning-of-text in front, digits, Chinese, bytes, blanks as sentencepiece
    has them, and decoding gives the text back."""
    from sentencepiece import SentencePieceProcessor

    fast = build_tokenizer(settings)
    slow = SentencePieceProcessor(model_file=str(settings / "tokenizer.model"))
    added = json.loads((settings / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    for index, token in added.items():
        assert fast.convert_tokens_to_ids(token["content"]) == int(index)
    assert fast.encode("a")[0] == slow.bos_id()
    for text in ("lift the red cube", " +12%", "把红色方块", "🤖\x07", "  two  blanks "):
        ids = fast.encode(text, add_special_tokens=False)
        assert ids == slow.encode(text) and fast.decode(ids) == text
    mixed = fast.encode("<|im_start|>user\n1<|im_end|>", add_special_tokens=False)
    assert mixed[1:-1] == slow.encode("user\n1")


def test_configurations_are_translated(settings: Path) -> None:
    """Grouped heads, rotary base and scaling; what transformers cannot express is refused."""
    source = json.loads((settings / "config.json").read_text())
    config = full_config(source, 7)
    assert config["image_seq_length"] == 16 and config["image_token_id"] == 7
    assert config["text_config"]["rope_parameters"] == {"rope_type": "dynamic", "rope_theta": 1e6, "factor": 2.0}
    for change, words in (({"ps_version": "v1"}, "ps_version"), ({"force_image_size": 448}, "force_image_size")):
        with pytest.raises(CheckpointError, match=words):
            full_config({**source, **change}, 7)
    with pytest.raises(CheckpointError, match="Qwen2ForCausalLM"):
        text_config({"llm_config": {"architectures": ["Qwen2ForCausalLM"]}})


def test_a_failed_conversion_writes_nothing(settings: Path, tmp_path: Path, checkpoint: Path) -> None:
    """Missing tensors, an existing target, a native source, a missing tokenizer: one error, no folder."""
    from safetensors.torch import save_file

    target = tmp_path / "out" / "converted"
    save_file({"language_model.output.weight": torch.zeros(4, 4)}, settings / "model.safetensors")
    with pytest.raises(CheckpointError, match="tensors do not fit the model"):
        convert(settings, target)
    assert list(target.parent.iterdir()) == []
    target.mkdir()
    with pytest.raises(OutputError, match="exists already"):
        convert(settings, target)
    with pytest.raises(CheckpointError, match="already; load it as it is"):
        convert(checkpoint, tmp_path / "x")
    (settings / "tokenizer.model").rename(settings / "moved.model")
    with pytest.raises(CheckpointError, match=r"tokenizer\.model is missing"):
        convert(settings, tmp_path / "x")
    (settings / "tokenizer.model").write_bytes(b"\xff\xff")
    with pytest.raises(CheckpointError, match="not a"):
        convert(settings, tmp_path / "x")
    (settings / "moved.model").rename(settings / "tokenizer.model")
    assert not (tmp_path / "x").exists()


def test_a_full_disk_is_an_error_and_leaves_nothing(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer of tensors has an error class of its own for it."""
    from safetensors.torch import save_file

    save_file({"language_model.output.weight": torch.zeros(4, 4)}, settings / "model.safetensors")
    full = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    monkeypatch.setattr("evo_vlac.convert.checkpoint._write_weights", Mock(side_effect=full))
    with pytest.raises(OutputError, match=r"x cannot be written: .*No space left on device"):
        convert(settings, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_reference_environment_is_named(tmp_path: Path) -> None:
    """Before anything is compared."""
    from evo_vlac.convert.check import _run_reference

    with pytest.raises(EngineError, match="cannot be run"):
        _run_reference(str(tmp_path / "python"), tmp_path, tmp_path / "a", tmp_path / "b")
    with pytest.raises(EngineError, match="failed"):
        _run_reference("/bin/false", tmp_path, tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_converted_and_published_are_the_same(tmp_path: Path) -> None:
    """A random checkpoint of the published code: logits and tokens agree, and through ms-swift the engine's answers."""
    python, code = os.environ.get("EVO_VLAC_REFERENCE_PYTHON"), os.environ.get("EVO_VLAC_PUBLISHED_CODE")
    if not python or not code:
        pytest.skip("EVO_VLAC_REFERENCE_PYTHON and EVO_VLAC_PUBLISHED_CODE are not set")
    builder, asker = (Path(__file__).with_name(name) for name in ("published_checkpoint.py", "published_answers.py"))
    source, target = tmp_path / "published", tmp_path / "converted"
    subprocess.run([python, str(builder), code, str(source)], check=True, timeout=300)
    assert main(["convert", str(source), str(target), "--reference-python", python, "--tolerance", "1e-3"]) == 0
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    answers = []
    for interpreter, checkpoint in ((python, source), (sys.executable, target)):
        out = tmp_path / f"{checkpoint.name}.json"
        subprocess.run([interpreter, str(asker), str(checkpoint), str(out)], check=True, timeout=300, env=environment)
        answers.append(json.loads(out.read_text()))
    for theirs, ours in zip(*answers):
        assert ours["error"] is None
        # A slow tokenizer decodes a special token with a blank in front; the ids are the same.
        assert [t[0].strip() for t in ours["tokens"]] == [t[0].strip() for t in theirs["tokens"]]
        assert [t[1] for t in ours["tokens"]] == pytest.approx([t[1] for t in theirs["tokens"]], abs=1e-3)
