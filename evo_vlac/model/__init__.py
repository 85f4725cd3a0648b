"""A model of the InternVL family, run quickly: what a critic and a policy made of VLAC share. Nothing here serves.

loading.py --> runner.py --> prompt_tokens.py, pixels.py, byte_cache.py     what goes in, and what is known already
                         --> backbone.py, decoding.py                       passes and tokens
                             shared_prefix.py, kv.py, last_layer.py, packed.py, tower_attention.py      kernels
"""
