"""The arm's next action from camera views and its state (VLAC is a policy too; the tiny critic was not trained for it).

python examples/critic_vla.py --model MODEL front.png wrist.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from evo_vlac import GAC_model

DATA = Path(__file__).with_name("data")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("views", nargs="*", default=[str(DATA / "lift_0.png")], help="1 to 3 images")
    parser.add_argument("--model", default="models/vlac-tiny")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--task", default="lift the red cube")
    options = parser.parse_args()

    state = [-18151, 11685, 418833, -124631, 65461, -133783, 27510]  # 0.001 mm, 0.001 degrees, the gripper
    policy = GAC_model(tag="Policy")
    policy.init_model(model_path=options.model, device_map=options.device)
    policy.temperature = 0.5
    policy.top_k = 1
    policy.max_tokens = 160
    policy.set_config()
    policy.set_system_prompt()

    prompt = policy.get_action_prompt(task=options.task, view_num=len(options.views), state=policy.format_state(state))
    requests = policy.get_infer_requests(prompt=prompt, images=options.views)
    responses, seconds = policy.chat(requests)
    answers, _ = policy.results_format(responses, requests)
    print(f"action: {answers[0]}   ({seconds:.2f} s)")


if __name__ == "__main__":
    main()
