"""Parallel decoding: all action tokens of a chunk from one pass of LLaMA with bidirectional attention.

    position   0    1 .. P     P+1 ..        P+L-1     P+L .. P+L+A-1     P+L+A
    input     <s>  patches   prompt[1:]   (last token)  zeros (A tokens)   </s>     then padding, masked
    read                                  hidden[P+L-1 .. P+L+A-2] -> logits of the A action tokens

P counts the patches of all images and the proprio embedding, L the prompt's tokens with <s>. As in OpenVLA-OFT, EVERY
token sees every other but padding (its fork of transformers replaces the causal mask), the action tokens' embeddings
are zeros, told apart by their rotary positions alone, and each is read one position earlier.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import linear
from transformers import LlamaConfig, LlamaForCausalLM

STOP_TOKEN = 2  # </s> of LLaMA


def make_decoder(config: LlamaConfig, attention: str) -> LlamaForCausalLM:
    """LLaMA without weights whose attention layers are not causal."""
    config._attn_implementation = attention
    make: Callable[[LlamaConfig], LlamaForCausalLM] = LlamaForCausalLM  # whose own signature has no types
    model = make(config)
    for layer in model.model.layers:
        layer.self_attn.is_causal = False
    return model


class ParallelDecoder:
    """Puts patches, prompt and action slots together and reads the action tokens' hidden states."""

    def __init__(self, llama: LlamaForCausalLM, action_tokens: int) -> None:
        self.llama, self.action_tokens = llama, action_tokens

    def hidden(self, patches: torch.Tensor, prompts: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Hidden states from which the action tokens are read.

        Args:
            patches: (B, P, D) projected patches, then the proprio embedding.
            prompts: (B, L) int64 token ids starting with <s>, padded at the right.
            lengths: (B,) int64, tokens of each prompt without padding.

        Returns:
            (B, action_tokens, D).
        """
        batch, count = patches.shape[:2]
        longest = prompts.shape[1]
        places = torch.arange(longest + self.action_tokens + 1, device=prompts.device)[None, :]
        ends = lengths[:, None]
        padded = torch.nn.functional.pad(prompts, (0, self.action_tokens + 1))
        ids = torch.where(places < ends, padded, STOP_TOKEN)
        is_action = (places >= ends) & (places < ends + self.action_tokens)
        embedded = self.llama.model.embed_tokens(ids) * ~is_action[..., None]
        embedded = torch.cat([embedded[:, :1], patches.to(embedded.dtype), embedded[:, 1:]], dim=1)
        real = places <= ends + self.action_tokens
        real = torch.cat([real.new_ones(batch, count), real], dim=1)
        output = self.llama.model(inputs_embeds=embedded, attention_mask=self._mask(real), use_cache=False)
        read = count + ends - 1 + torch.arange(self.action_tokens, device=prompts.device)[None, :]
        hidden = output.last_hidden_state
        read_at: torch.Tensor = hidden.gather(1, read[..., None].expand(-1, -1, hidden.shape[-1]))
        return read_at

    def logits(self, hidden: torch.Tensor, first: int, count: int) -> torch.Tensor:
        """(B, A, D) to (B, A, count) float32 logits of the vocabulary's ``count`` tokens from ``first`` on."""
        head: nn.Module = self.llama.lm_head
        if type(head) is nn.Linear:  # the other rows are never needed: 256 of 32064 in the published checkpoints
            return linear(hidden, head.weight[first : first + count]).float()
        logits: torch.Tensor = head(hidden)[..., first : first + count].float()
        return logits

    def _mask(self, real: torch.Tensor) -> torch.Tensor:
        """The attention mask in the form that the attention implementation takes: only padding is hidden."""
        implementation = self.llama.config._attn_implementation
        if implementation.startswith("flash_attention"):
            return real
        mask = real[:, None, None, :]
        if implementation == "sdpa":
            return mask
        zeros = torch.zeros(mask.shape, dtype=self.llama.dtype, device=mask.device)
        return zeros.masked_fill(~mask, torch.finfo(zeros.dtype).min)
