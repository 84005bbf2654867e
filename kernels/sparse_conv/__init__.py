"""Sparse convolution."""

from xmask3d_rt.kernels.sparse_conv.op import Epilogue, sparse_conv

__all__ = ["Epilogue", "sparse_conv"]
