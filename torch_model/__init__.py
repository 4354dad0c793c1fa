"""EfficientDet in PyTorch with TensorFlow's exact semantics."""

from torch_model.checkpoint import load, load_checkpoint, save_checkpoint
from torch_model.model import EfficientDet, build

__all__ = ["EfficientDet", "build", "load", "load_checkpoint", "save_checkpoint"]
