"""How much of the task is done between pictures, and is it done? A few pictures in order, the typed API.

python examples/critic_images.py --model models/vlac-tiny
"""

from __future__ import annotations

import argparse
from pathlib import Path

from evo_vlac import Critic, SwiftEngine
from evo_vlac.images import load_image

DATA = Path(__file__).with_name("data")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models/vlac-tiny")
    parser.add_argument("--task", default="lift the red cube")
    parser.add_argument("images", nargs="*", default=[str(path) for path in sorted(DATA.glob("lift_?.png"))])
    options = parser.parse_args()

    images = [load_image(path) for path in options.images]
    with Critic(SwiftEngine(options.model)) as critic:
        result = critic.trajectory(images, options.task)
        verdicts = critic.done(images, options.task)

    for path, value, verdict in zip(options.images, result.values, verdicts):
        print(
            f"{Path(path).name}: value {value:5.1f} %, done {verdict.probability:.3f} {'yes' if verdict.done else 'no'}"
        )
    print(f"critics {result.critics}, VOC {result.voc:.2f}, unreadable answers {result.invalid}")


if __name__ == "__main__":
    main()
