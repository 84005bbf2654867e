"""From mask logits to the query that owns each point."""

from xmask3d_rt.kernels.assign_masks.op import assign_masks
from xmask3d_rt.kernels.assign_masks.reference import MaskAssignment, mask_class_logits

__all__ = ["MaskAssignment", "assign_masks", "mask_class_logits"]
