"""Upstream's module paths: ``evo_vlac.utils.video_tool``, ``.model_utils``, ``.data_processing_vlm``."""
