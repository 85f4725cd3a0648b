"""Runs in an environment of the reference set (transformers 4.51.3), as a script: no import of this package.

    python reference_logits.py CHECKPOINT REQUEST.npz REPLY.npz

REQUEST holds texts (a JSON list), ids (int64, T) and pixels (float32, images x 3 x H x W); REPLY gets the slow
tokenizer's ids of every text (JSON) and the published code's float32 logits (T, vocabulary) over ids and pixels.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer


def main(checkpoint: str, request: str, reply: str) -> None:
    """Answers one request."""
    asked = np.load(request)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=True, use_fast=False)
    texts = json.loads(str(asked["texts"]))
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    model = AutoModel.from_pretrained(
        checkpoint, trust_remote_code=True, torch_dtype=torch.float32, use_flash_attn=False, low_cpu_mem_usage=False
    ).eval()
    model.img_context_token_id = tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    with torch.inference_mode():
        output = model(
            pixel_values=torch.from_numpy(asked["pixels"]),
            input_ids=torch.from_numpy(asked["ids"])[None],
            attention_mask=torch.ones(1, len(asked["ids"]), dtype=torch.int64),
            image_flags=torch.ones(len(asked["pixels"]), 1, dtype=torch.int64),
        )
    np.savez(reply, logits=output.logits[0].numpy(), tokens=json.dumps(ids))


if __name__ == "__main__":
    main(*sys.argv[1:4])
