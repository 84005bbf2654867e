"""Without the Unix modules, as on Windows (and partly macOS): everything imports, and labels."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Python's own modules and other packages keep what they are written to do without.
REFUSE_UNIX = """
import builtins

OWN = ("xmask3d_rt", "benchmarks")
UNIX = ("fcntl", "resource", "pwd", "grp", "termios", "triton")
found = builtins.__import__

def refuse(name, globals=None, *rest, **named):
    if (globals or {}).get("__name__", "").startswith(OWN) and name.split(".")[0] in UNIX:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return found(name, globals, *rest, **named)

builtins.__import__ = refuse
"""
WITHOUT_UNIX = """
import importlib, os, pkgutil, signal, sys
import torch, numpy, psutil, multiprocessing.resource_tracker  # before names are taken away
for name in ("sched_getaffinity", "fork", "killpg", "getpgid", "sysconf", "setsid", "geteuid"):
    delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "SIGPIPE", "pthread_kill"):
    delattr(signal, name)
"""
IMPORT_ALL = """
import benchmarks, xmask3d_rt, xmask3d_rt.export, xmask3d_rt.kernels
triton_alone = (".kernel", ".launch", ".kernels.aot", ".cases")
for package in (xmask3d_rt, xmask3d_rt.kernels, xmask3d_rt.export, benchmarks):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith(triton_alone):
            importlib.import_module(module.name)
print("imported", sum(name.startswith(OWN) for name in sys.modules))
"""
LABEL = """
import pathlib
from tests.training.rooms import micro_config
from xmask3d_rt.data.room import generate_room, write_room
from xmask3d_rt.export.parity.module_pipeline import load_synthetic_module, make_module_segmenter

torch.set_num_threads(1)
folder = pathlib.Path(sys.argv[1])
room = write_room(generate_room(0, 1, (120, 160), point_spacing=0.1), folder / "room")
segmenter = make_module_segmenter(load_synthetic_module(micro_config()))
result = segmenter.run(room / "scene.ply", ["wall", "floor"], views=room)
result.save(folder / "out.ply")
print("labelled", len(result.labels))
"""


def run_without_unix(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", REFUSE_UNIX + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_every_module_imports_and_a_cloud_is_labelled(tmp_path):
    """Labelled first, so that nothing is imported but what labelling itself imports."""
    labelled, imported = run_without_unix(WITHOUT_UNIX + LABEL + IMPORT_ALL, tmp_path).splitlines()
    assert labelled.startswith("labelled")
    assert (tmp_path / "out.ply").is_file()
    assert int(imported.split()[-1]) > 100


def test_the_modules_are_really_missing():
    """Otherwise the test above could not fail."""
    code = "import types\nexec('import fcntl', {'__name__': 'xmask3d_rt.probe'})"
    with pytest.raises(AssertionError, match="No module named 'fcntl'"):
        run_without_unix(code)
