"""Lets a CPU build of torch live beside the CUDA build of torchvision that PyPI ships.

torchvision's compiled operators need CUDA libraries; without them ``import torchvision`` stops at
"operator torchvision::nms does not exist", and with it transformers' InternVL, ms-swift and vLLM. Those use only
torchvision's pure-torch transforms, so declaring the two operator schemas is enough.

``setup/environment.sh`` copies this file into the environment that it makes, with a ``.pth`` line that runs it at
interpreter start (in every sub-process too), and only when the plain import fails there. It costs nothing until
torchvision is imported: a hook waits for that.
"""

import sys
from importlib.abc import MetaPathFinder

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries = []  # torch forgets the schemas when the Library object is collected


class _DeclareBeforeTorchvision(MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            import torch

            library = torch.library.Library("torchvision", "DEF")
            for schema in _SCHEMAS:
                library.define(schema)
            _libraries.append(library)
        return None


sys.meta_path.insert(0, _DeclareBeforeTorchvision())
