"""The PyTorch training module of XMask3D; never imported by the runtime."""
