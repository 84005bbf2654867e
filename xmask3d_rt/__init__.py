"""XMask3D for deployment: open-vocabulary labels for every point of a coloured cloud."""

from xmask3d_rt.version import __version__

__all__ = ["__version__"]
