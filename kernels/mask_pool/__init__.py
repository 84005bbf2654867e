"""Mean feature of each hard mask."""

from xmask3d_rt.kernels.mask_pool.op import mask_pool

__all__ = ["mask_pool"]
