"""The form of a model that computes fastest: folded, fused and prepared for one shape of images."""

from torch_model.optimized.form import OptimizedEfficientDet
from torch_model.optimized.memory import keep_memory

__all__ = ["OptimizedEfficientDet", "keep_memory"]
