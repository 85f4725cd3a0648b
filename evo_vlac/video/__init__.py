"""Reading videos, and writing them with what the critic said drawn in."""

from __future__ import annotations

from evo_vlac.video.annotate import Annotation, annotated_video, summary_picture
from evo_vlac.video.chart import Series
from evo_vlac.video.reader import Video, read_video
from evo_vlac.video.thinning import sample_indices
from evo_vlac.video.writer import VideoWriter, write_video

__all__ = [
    "Annotation",
    "Series",
    "Video",
    "VideoWriter",
    "annotated_video",
    "read_video",
    "sample_indices",
    "summary_picture",
    "write_video",
]
