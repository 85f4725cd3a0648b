"""The tiny critic: a native InternVL whose tokenizer holds VLAC's prompts and any other text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evo_vlac import prompts
from evo_vlac.tiny.model import TinyConfig, build_tiny_vlac
from evo_vlac.tiny.tokenizer import build_tokenizer, prompt_phrases
from evo_vlac.tiny.words import WORDS

TOKENIZER = build_tokenizer(1280)
SMALL = TinyConfig(vision_hidden=32, vision_layers=1, vision_mlp=32, text_hidden=32, text_layers=1, text_mlp=32)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_vlac(tmp_path_factory.mktemp("tiny"), SMALL)


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_survives(text: str) -> None:
    """Whatever the text, its tokens decode to it again: nothing is unknown."""
    assert TOKENIZER.decode(TOKENIZER.encode(text, add_special_tokens=False)) == text


def test_digits_are_single_tokens() -> None:
    """Every digit is a token of its own, wherever it stands."""
    assert TOKENIZER.tokenize("-1234 56%") == ["-", "1", "2", "3", "4", "Ġ", "5", "6", "%"]
    assert all(len(TOKENIZER.encode(d, add_special_tokens=False)) == 1 for d in "0123456789")


def test_words_and_phrases_are_single_tokens() -> None:
    """A listed word inside a sentence and a fixed phrase of a prompt cost one token each."""
    assert [w for w in WORDS if len(TOKENIZER.tokenize(f" {w}")) != 1] == []
    assert [p for p in prompt_phrases(prompts.table()) if len(TOKENIZER.tokenize(p)) != 1] == []
    done = prompts.fill("done", "lift the red cube")
    assert len(TOKENIZER.tokenize(done)) == 6


def test_building_is_deterministic() -> None:
    """The same words and prompts give the same vocabulary."""
    assert build_tokenizer(1280).get_vocab() == TOKENIZER.get_vocab()


def test_checkpoint_loads_and_sees_one_tile(small: Path) -> None:
    """Saved and loaded by transformers alone: one tile of 16 tokens an image, finite logits, ends known."""
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(small)
    model = AutoModelForImageTextToText.from_pretrained(small).eval()
    assert type(model).__name__ == "InternVLForConditionalGeneration"
    assert model.dtype == torch.float32
    text = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "done?"}]}],
        add_generation_prompt=True,
    )
    batch = processor(images=[Image.new("RGB", (300, 200))], text=[text], return_tensors="pt")
    assert batch["pixel_values"].shape == (1, 3, 112, 112)
    assert int((batch["input_ids"] == processor.image_token_id).sum()) == SMALL.image_tokens == 16
    with torch.no_grad():
        assert torch.isfinite(model(**batch).logits).all()
    assert model.generation_config.eos_token_id == processor.tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_weights_follow_the_seed(small: Path, tmp_path: Path) -> None:
    """The same seed writes the same weights."""
    again = build_tiny_vlac(tmp_path / "again", SMALL)
    assert (again / "model.safetensors").read_bytes() == (small / "model.safetensors").read_bytes()


def test_sizes_that_do_not_fit() -> None:
    """An image that is no even multiple of the patch, or a width no multiple of the head, is refused."""
    with pytest.raises(ValueError, match="image_size=105"):
        TinyConfig(image_size=105)
    with pytest.raises(ValueError, match="text_hidden=100"):
        TinyConfig(text_hidden=100)
