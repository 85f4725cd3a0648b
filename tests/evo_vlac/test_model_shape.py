"""One shape of VLAC-2B for the plan of a run's memory, the bench and the GPU check."""

from __future__ import annotations

from evo_vlac.model_shape import VLAC_2B, ModelShape
from sidecar.bench.shapes import SHAPES
from verl.trainer.memory_shapes import critic_shape

PUBLISHED = {
    "vision_config": {
        **{"image_size": 448, "patch_size": 14, "num_hidden_layers": 24, "hidden_size": 1024},
        **{"num_attention_heads": 16, "intermediate_size": 4096},
    },
    "llm_config": {
        **{"num_hidden_layers": 24, "hidden_size": 2048, "num_attention_heads": 16, "num_key_value_heads": 8},
        **{"intermediate_size": 8192, "vocab_size": 92_553},
    },
}


def test_everybody_means_the_same_model():
    assert SHAPES["vlac-2b"] is VLAC_2B and critic_shape(None) is VLAC_2B


def test_a_config_json_is_read_as_published_and_as_transformers_writes_it():
    assert ModelShape.of(PUBLISHED) == VLAC_2B
    vision = {**PUBLISHED["vision_config"], "image_size": [448, 448], "patch_size": [14, 14]}
    text = {**PUBLISHED["llm_config"], "head_dim": 128}
    assert ModelShape.of({"vision_config": vision, "text_config": text, "tie_word_embeddings": False}) == VLAC_2B
    tied = ModelShape.of({**PUBLISHED, "tie_word_embeddings": True})
    assert VLAC_2B.parameters - tied.parameters == 92_553 * 2048
