"""Simulator frames as OpenVLA's training saw them: through a JPEG file, then a Lanczos filter.

    uint8 -> tf.image.encode_jpeg (quality 95, 4:2:0) -> tf.io.decode_image -> tf.image.resize(lanczos3, antialias)

To the same grey levels, without TensorFlow, on the frames' device. Its decoder takes libjpeg's fast inverse transform,
which Pillow cannot: Pillow's levels are off by 1 in the mean and by 19 at most (two frames of 256 px). So the lossy
parts of JPEG stand here as integer arithmetic (libjpeg's jccolor, jcsample, jfdctint, jcdctmgr, jddctmgr, jidctfst,
jdsample, jdcolor).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

# ITU T.81, annex K, scaled to quality 95.
_LUMA = """2 1 1 2 2 4 5 6 1 1 1 2 3 6 6 6 1 1 2 2 4 6 7 6 1 2 2 3 5 9 8 6
2 2 4 6 7 11 10 8 2 4 6 6 8 10 11 9 5 6 8 9 10 12 12 10 7 9 10 10 11 10 10 10"""
_CHROMA = """2 2 2 5 10 10 10 10 2 2 3 7 10 10 10 10 2 3 6 10 10 10 10 10 5 7 10 10 10 10 10 10
10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10"""
_AAN = np.array([1.0, *(np.cos(np.arange(1, 8) * np.pi / 16) * np.sqrt(2))])
_BLOCK = 8


def as_rlds(frames: torch.Tensor, size: int) -> torch.Tensor:
    """(N, H, W, 3) uint8 to (N, size, size, 3) uint8."""
    x = through_jpeg(frames).permute(0, 3, 1, 2).to(torch.float32)
    rows, columns = (_lanczos(length, size).to(x.device) for length in x.shape[-2:])
    small = torch.einsum("oh,nchw,pw->ncop", rows, x, columns)
    return small.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def through_jpeg(frames: torch.Tensor) -> torch.Tensor:
    """(N, H, W, 3) uint8 through a file of quality 95 and back."""
    height, width = frames.shape[1:3]
    x = torch.nn.functional.pad(
        frames.permute(0, 3, 1, 2).float(), (0, -width % 16, 0, -height % 16), mode="replicate"
    ).int()
    r, g, b = x.unbind(1)
    luma = (19595 * r + 38470 * g + 7471 * b + 32768) >> 16
    centre = (128 << 16) + 32767
    blue = (-11059 * r - 21709 * g + 32768 * b + centre) >> 16
    red = (32768 * r - 27439 * g - 5329 * b + centre) >> 16
    luma = _through_blocks(luma, _LUMA)
    blue, red = (
        _upsampled(_through_blocks(_halved(plane), _CHROMA)[:, : -(-height // 2), : -(-width // 2)]) - 128
        for plane in (blue, red)
    )
    luma, blue, red = (plane[:, :height, :width] for plane in (luma, blue, red))
    r = luma + ((91881 * red + 32768) >> 16)
    g = luma + ((-22554 * blue - 46802 * red + 32768) >> 16)
    b = luma + ((116130 * blue + 32768) >> 16)
    return torch.stack([r, g, b], dim=-1).clamp(0, 255).to(torch.uint8)


def _halved(plane: torch.Tensor) -> torch.Tensor:
    """(N, H, W) to half of both, by means of four that round up and down in turn."""
    total = plane[:, ::2, ::2] + plane[:, ::2, 1::2] + plane[:, 1::2, ::2] + plane[:, 1::2, 1::2]
    return (total + 1 + torch.arange(total.shape[-1], device=plane.device) % 2) >> 2


def _upsampled(plane: torch.Tensor) -> torch.Tensor:
    """(N, H, W) to twice both, each from its nearest and the next ones by 9 : 3 : 3 : 1 ("fancy upsampling")."""
    above, below = torch.cat([plane[:, :1], plane[:, :-1]], 1), torch.cat([plane[:, 1:], plane[:, -1:]], 1)
    rows = torch.stack([3 * plane + above, 3 * plane + below], 2).flatten(1, 2)
    left, right = torch.cat([rows[..., :1], rows[..., :-1]], 2), torch.cat([rows[..., 1:], rows[..., -1:]], 2)
    return torch.stack([(3 * rows + left + 8) >> 4, (3 * rows + right + 7) >> 4], 3).flatten(2)


def _through_blocks(plane: torch.Tensor, table: str) -> torch.Tensor:
    """(N, H, W) samples, transformed in blocks of 8, quantised, and transformed back."""
    count, height, width = plane.shape
    steps = torch.tensor([int(n) for n in table.split()], dtype=torch.int32, device=plane.device).view(_BLOCK, _BLOCK)
    blocks = plane.view(count, height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK).transpose(2, 3) - 128
    coefficients = _forward(blocks)
    levels = coefficients.sign() * torch.div(coefficients.abs() + 4 * steps, 8 * steps, rounding_mode="floor")
    scales = torch.from_numpy(np.rint(np.outer(_AAN, _AAN) * 2**14).astype(np.int32)).to(plane.device)
    samples = _inverse(levels * ((steps * scales + 2048) >> 12))
    return samples.transpose(2, 3).reshape(count, height, width)


def _forward(blocks: torch.Tensor) -> torch.Tensor:
    """libjpeg's accurate forward transform (jfdctint); (..., 8, 8), the result 8 times the coefficients."""
    rows = torch.stack(_forward_pass(blocks.unbind(-1), 0, 11), -1)
    return torch.stack(_forward_pass(rows.unbind(-2), -2, 15), -2)


def _forward_pass(d: tuple[torch.Tensor, ...], even_shift: int, shift: int) -> list[torch.Tensor]:
    def scaled(x: torch.Tensor) -> torch.Tensor:
        return (x + (1 << (shift - 1))) >> shift

    s0, s1, s2, s3 = d[0] + d[7], d[1] + d[6], d[2] + d[5], d[3] + d[4]
    s7, s6, s5, s4 = d[0] - d[7], d[1] - d[6], d[2] - d[5], d[3] - d[4]
    a0, a3, a1, a2 = s0 + s3, s0 - s3, s1 + s2, s1 - s2
    even = [(a + 2) >> 2 if even_shift else a << 2 for a in (a0 + a1, a0 - a1)]
    z1 = (a2 + a3) * 4433
    z5 = (s4 + s6 + s5 + s7) * 9633
    z3, z4 = (s4 + s6) * -16069 + z5, (s5 + s7) * -3196 + z5
    y1, y2 = (s4 + s7) * -7373, (s5 + s6) * -20995
    return [
        even[0],
        scaled(s7 * 12299 + y1 + z4),
        scaled(z1 + a3 * 6270),
        scaled(s6 * 25172 + y2 + z3),
        even[1],
        scaled(s5 * 16819 + y2 + z4),
        scaled(z1 - a2 * 15137),
        scaled(s4 * 2446 + y1 + z3),
    ]


def _inverse(coefficients: torch.Tensor) -> torch.Tensor:
    """libjpeg's fast inverse transform (jidctfst) of scaled coefficients; (..., 8, 8) to samples in 0..255."""
    columns = torch.stack(_inverse_pass(coefficients.unbind(-2)), -2)
    return ((torch.stack(_inverse_pass(columns.unbind(-1)), -1) >> 5) + 128).clamp(0, 255)


def _inverse_pass(c: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    a0, a1, a3 = c[0] + c[4], c[0] - c[4], c[2] + c[6]
    a2 = ((c[2] - c[6]) * 362 >> 8) - a3
    e0, e3, e1, e2 = a0 + a3, a0 - a3, a1 + a2, a1 - a2
    z13, z10, z11, z12 = c[5] + c[3], c[5] - c[3], c[1] + c[7], c[1] - c[7]
    o7 = z11 + z13
    z5 = (z10 + z12) * 473 >> 8
    o6 = (z10 * -669 >> 8) + z5 - o7
    o5 = ((z11 - z13) * 362 >> 8) - o6
    o4 = (z12 * 277 >> 8) - z5 + o5
    return [e0 + o7, e1 + o6, e2 + o5, e3 - o4, e3 + o4, e2 - o5, e1 - o6, e0 - o7]


@lru_cache(maxsize=16)
def _lanczos(length: int, size: int) -> torch.Tensor:
    """(size, length) float32 weights of ``tf.image.resize(method="lanczos3", antialias=True)``."""
    scale = length / size
    width = max(scale, 1.0)
    apart = (np.arange(length)[None] + 0.5 - (np.arange(size)[:, None] + 0.5) * scale) / width
    weights = np.where(np.abs(apart) < 3, np.sinc(apart) * np.sinc(apart / 3), 0.0)
    return torch.from_numpy((weights / weights.sum(1, keepdims=True)).astype(np.float32))
