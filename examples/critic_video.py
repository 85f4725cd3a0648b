"""A video scored and annotated, with the class and the arguments that VLAC's users know.

python examples/critic_video.py --model models/vlac-tiny
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from evo_vlac import GAC_model
from evo_vlac.utils.video_tool import compress_video

DATA = Path(__file__).with_name("data")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models/vlac-tiny")
    parser.add_argument("--device", default="auto", help="cuda:0, cpu, ...")
    parser.add_argument("--task", default="lift the red cube")
    parser.add_argument("--video", default=str(DATA / "lift_success.mp4"))
    parser.add_argument("--reference", help="a success, shown to the critic (the tiny critic was not trained for it)")
    parser.add_argument("--output", default="results")
    options = parser.parse_args()

    critic = GAC_model(tag="critic")
    critic.init_model(model_path=options.model, model_type="internvl2", device_map=options.device)
    critic.temperature = 0.5
    critic.top_k = 1
    critic.set_config()
    critic.set_system_prompt()

    with tempfile.TemporaryDirectory() as folder:
        video, fps = compress_video(options.video, os.path.join(folder, "video.mp4"), fps=5)
        reference = options.reference
        if reference:
            reference, _ = compress_video(reference, os.path.join(folder, "reference.mp4"), fps=5)
        path, values, critics, done = critic.web_trajectory_critic(
            task_description=options.task,
            main_video_path=video,
            reference_video_path=reference,
            batch_num=10,
            ref_num=6,
            skip=1,
            output_path=options.output,
            fps=fps,
            frame_skip=True,
            done_flag=True,
            done_threshold=0.9,
        )
    print(f"annotated video: {path}")
    print(f"values: {[round(value, 1) for value in values]}")
    print(f"critics: {critics}")
    print(f"done: {done}")


if __name__ == "__main__":
    main()
