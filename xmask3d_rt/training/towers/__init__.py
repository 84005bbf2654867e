"""The stand-ins for CLIP and Stable Diffusion of the `tiny` preset, and how they are trained."""
