"""``GAC_model``: upstream's public methods, arguments, defaults and returns, over the typed API.

What upstream computes, this class computes by upstream's rules, also where the rest of this project has others
(:mod:`evo_vlac.compat.reading`). What differs on purpose: the last frame is always scored; an answer that cannot be
read counts as no progress (0) and is logged instead of ending the batch, and a number beyond 100 % counts as the bound;
references of any number work; images are squashed to the checkpoint's own size.
"""

from __future__ import annotations

from typing import Any

from evo_vlac.compat.recording_methods import RecordingMethods
from evo_vlac.compat.trajectory_methods import every_skip
from evo_vlac.compat.video_tool import images_get_from_video, video_trajectory


class GAC_model(RecordingMethods):  # upstream's name
    """VLAC as its users know it: ``init_model``, ``set_config``, ``set_system_prompt``, then ask."""

    def web_trajectory_critic(
        self,
        task_description: str,
        main_video_path: str,
        reference_video_path: str | None = None,
        batch_num: int = 20,
        ref_num: int = 9,
        think: bool = False,
        skip: int = 1,
        rich: bool = False,
        reverse_eval: bool = False,
        output_path: str | None = None,
        fps: float | None = None,
        frame_skip: bool = False,
        addition_scale: float = 1,
        bias: float = 0,
        positive_clip: float = 0,
        negative_clip: float = 0,
        related_critic: bool = False,
        done_flag: bool = False,
        in_context_done: bool = False,
        done_threshold: float | bool = False,
        video_output: bool = True,
    ) -> tuple[str | None, list[float], list[float], list[float] | None]:
        """Scores a video; returns (path of the annotated video or None, values, critics, done list or None)."""
        frames = images_get_from_video(main_video_path)
        reference = images_get_from_video(reference_video_path) if reference_video_path is not None else None
        done_list = None
        if done_flag:
            picks = every_skip(len(frames), skip) if frame_skip else range(len(frames))
            settings: dict[str, Any] = {
                "batch_num": batch_num,
                "rich": True,
                "ref_num": ref_num,
                "threshold": float(done_threshold),
            }
            if in_context_done and reference:  # the frame before, also where frames are left out
                pairs = [(frames[i - 1], frames[i]) for i in picks if i]
                done_list = self._in_context(task_description, frames[0], pairs, reference, **settings)
            else:
                done_list = self.get_trajectory_done(task_description, [frames[i] for i in picks], **settings)
        critic_list, value_list = self.get_trajectory_critic(
            task=task_description,
            image_list=frames,
            ref_image_list=reference,
            batch_num=batch_num,
            ref_num=ref_num,
            think=think,
            skip=skip,
            rich=rich,
            reverse_eval=reverse_eval,
            frame_skip=frame_skip,
            addition_scale=addition_scale,
            bias=bias,
            positive_clip=positive_clip,
            negative_clip=negative_clip,
            related_critic=related_critic,
        )
        if not video_output:
            return None, value_list, critic_list, done_list
        path = video_trajectory(
            traj_id="temp",
            view="0",
            image_paths=[],
            image_objects=frames,
            done_list=done_list,
            critic_list=critic_list,
            value_list=value_list,
            task=task_description,
            output_path=output_path,
            fps=fps or 5.0 / skip,
            ref_image_paths=reference,
            n_num=ref_num,
        )
        return path, value_list, critic_list, done_list

    def web_trajectory_done(
        self, task_description: str, main_image_path: Any, reference_image_path: Any = None, rich: bool = False
    ) -> str:
        """Whether one image shows the task done, as a line of text."""
        done = self.get_trajectory_done(
            task_description, [main_image_path], batch_num=1, rich=rich, goal_image=reference_image_path
        )
        return f"Task: {task_description}\nCritic Score: {done[0]}"
