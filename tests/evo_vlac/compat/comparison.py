"""Compares this project with VLAC's own pure functions, on a checkout of it (71acb22), over random inputs.

    python -m tests.evo_vlac.compat.comparison CHECKOUT --inputs 10000
    python -m tests.evo_vlac.compat.comparison CHECKOUT --golden tests/evo_vlac/compat/golden.json

The first prints inputs and differences of each function. The second writes upstream's results on the first inputs, for
``test_golden.py``. Upstream's imports that these functions do not use are replaced by empty modules.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np

STUBS = ("swift", "swift.llm", "swift.utils", "swift.tuners", "loguru", "cv2", "pandas", "trl", "trl.trainer.utils")
GOLDEN_INPUTS = 40
Inputs = Callable[[Random], tuple[Any, ...]]
Called = Callable[[Any, Any, tuple[Any, ...]], Any]


def _number(random: Random, low: float = -250, high: float = 250) -> float:
    return random.choice([random.randint(int(low), int(high)), round(random.uniform(low, high), random.randint(0, 6))])


def _task(random: Random) -> str:
    return "".join(random.choice("abc XYZ,.{}<>/\u00e9\u63d0\n0") for _ in range(random.randint(0, 20)))


def _arm(random: Random) -> list[float]:
    return [_number(random, -720, 720) for _ in range(7)]


def _arms(random: Random) -> Any:
    return random.choice([None, "type", 7, _arm(random), [_arm(random)], [_arm(random), _arm(random)]])


def _critics(random: Random) -> list[Any]:
    critics = [_number(random, -99, 100) for _ in range(random.randint(0, 30))]
    return [str(c) if random.random() < 0.3 else c for c in critics]


def _numbers(random: Random) -> list[float]:
    return [_number(random) for _ in range(random.randint(3, 30))] + [300.0]


def _rich(random: Random) -> list[list[tuple[str, float]]]:
    """The alternatives of each token of an answer: a sign and at most one digit token."""
    parts = random.choice([["d"], ["+", "d"], ["-", "d"], ["-"], ["d", "%"]])
    out = []
    for part in parts:
        weights = sorted((random.random() ** 3 + 1e-9 for _ in range(10)), reverse=True)
        texts = random.sample([str(i) for i in range(101)], 10) if part == "d" else [part, *"abcdefghi"]
        out.append([(text, math.log(w / sum(weights))) for text, w in zip(texts, weights)])
    return out


def _response(answer: list[list[tuple[str, float]]]) -> Any:
    content = [
        {"token": top[0][0], "logprob": top[0][1], "top_logprobs": [{"token": t, "logprob": p} for t, p in top]}
        for top in [*answer, [("<|im_end|>", 0.0)]]
    ]
    text = "".join(top[0][0] for top in answer)
    return SimpleNamespace(
        choices=[SimpleNamespace(message=SimpleNamespace(content=text), logprobs={"content": content})]
    )


def _rich_text(model: Any, _: Any, given: tuple[Any, ...]) -> Any:
    response, request = _response(given[0]), SimpleNamespace(messages=[])
    if not type(model).__module__.startswith("evo_vlac.compat"):
        return model.results_format([response], [request], rich=True)[0]
    from evo_vlac.compat.requests import Choice, Message, Response

    choice = response.choices[0]
    printed = {"content": choice.logprobs["content"][:-1]}  # here the end token is left out already
    ours = Response([Choice(Message(choice.message.content), printed)])
    return model.results_format([ours], [request], rich=True)[0]


def _method(name: str) -> Called:
    return lambda model, data, given: getattr(model, name)(*given)


def _function(name: str) -> Called:
    return lambda model, data, given: getattr(data, name)(*given)


def _pixels(random: Random) -> Any:
    return np.asarray([[[random.choice([0, 0, 0, 5, 11])] * 3 for _ in range(4)] for _ in range(4)], dtype=np.uint8)


FUNCTIONS: dict[str, tuple[Inputs, Called]] = {
    "get_score_prompt": (
        lambda r: (_task(r), r.choice([0, 2, 6, 9]), r.random() < 0.5), _method("get_score_prompt")),
    "get_done_prompt": (lambda r: (_task(r),), _method("get_done_prompt")),
    "get_in_context_done_prompt": (lambda r: (r.choice([None, _task(r)]),), _method("get_in_context_done_prompt")),
    "get_action_score_prompt": (lambda r: (_task(r), _arms(r), _arms(r)), _method("get_action_score_prompt")),
    "get_action_prompt": (
        lambda r: (_task(r), r.randint(1, 3), r.random() < 0.5, r.random() < 0.5, _arms(r), r.randint(1, 4),
                   r.random() < 0.5), _method("get_action_prompt")),
    "get_fast_action_prompt": (lambda r: (_task(r), r.randint(1, 3)), _method("get_fast_action_prompt")),
    "format_state": (
        lambda r: ([r.randint(-500000, 500000) for _ in range(7)], r.random() < 0.5), _method("format_state")),
    "results_format, rich": (lambda r: (_rich(r),), _rich_text),
    "critic_to_value_simple": (
        lambda r: (_critics(r), r.choice([True, "mix_f", False])), _method("critic_to_value_simple")),
    "compute_voc": (lambda r: (_numbers(r),), _method("compute_voc")),
    "compute_negative_rate": (lambda r: (_numbers(r),), _method("compute_negative_rate")),
    "denormalize_fastchunk": (
        lambda r: ([_arm(r), _arm(r)], {"scale": _arm(r), "offset": _arm(r)}), _method("denormalize_fastchunk")),
    "transform_images": (
        lambda r: ("".join(r.choice(["<image>\n", "<image>", "a", "\n"]) for _ in range(8)),),
        _function("transform_images")),
    "trojectory_example_prompt": (
        lambda r: (list(range(r.randint(2, 20))), _task(r)), _function("trojectory_example_prompt")),
    "normalize_angle": (lambda r: (_number(r, -2000, 2000),), _function("normalize_angle")),
    "format_songling_v2": (
        lambda r: (_arms(r), r.random() < 0.5, r.choice([None, "left"])), _function("format_songling_v2")),
    "format_songling_simple": (
        lambda r: (_arms(r), r.random() < 0.5, r.choice([None, "left"])), _function("format_songling_simple")),
    "is_image_black": (lambda r: (_pixels(r) * r.randint(0, 1),), _function("is_image_black")),
    "is_image_almost_black": (lambda r: (_pixels(r),), _function("is_image_almost_black")),
}  # fmt: skip


def inputs_of(name: str, count: int) -> list[tuple[Any, ...]]:
    """The first inputs of a function, always the same."""
    random = Random(name)
    return [FUNCTIONS[name][0](random) for _ in range(count)]


def result(name: str, model: Any, data: Any, given: tuple[Any, ...]) -> Any:
    """A function's result, in JSON's types, on a copy of the input (upstream changes its arguments)."""
    import copy

    out = FUNCTIONS[name][1](model, data, copy.deepcopy(given))
    return json.loads(json.dumps(out, default=lambda value: value.tolist()))


def ours() -> tuple[Any, Any]:
    """This project's class and helpers."""
    import evo_vlac

    return evo_vlac.GAC_model(), evo_vlac.data_processing_vlm


def upstreams(checkout: Path) -> tuple[Any, Any]:
    """Upstream's class and helpers, from its files."""
    for name in STUBS:
        sys.modules[name] = MagicMock()
    sys.path.insert(0, str(checkout / "evo_vlac" / "utils"))
    import data_processing_vlm  # type: ignore[import-not-found]
    import model_utils  # type: ignore[import-not-found]

    return model_utils.GAC_model(), data_processing_vlm


def same(a: Any, b: Any) -> bool:
    """Equal; numbers to 1e-9 of their size."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)
    return bool(a == b)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--inputs", type=int, default=10000)
    parser.add_argument("--golden", type=Path)
    options = parser.parse_args()
    mine, theirs = ours(), upstreams(options.checkout)
    if options.golden:
        golden = {name: [result(name, *theirs, one) for one in inputs_of(name, GOLDEN_INPUTS)] for name in FUNCTIONS}
        options.golden.write_text(json.dumps(golden, indent=0) + "\n", encoding="utf-8")
        return
    for name in FUNCTIONS:
        different = [
            one
            for one in inputs_of(name, options.inputs)
            if not same(result(name, *mine, one), result(name, *theirs, one))
        ]
        print(f"{name:28} {options.inputs} inputs, {len(different)} differ", *different[:1])


if __name__ == "__main__":
    main()
