"""Which module may import which: no cycles, and one direction between the folders."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "xmask3d_rt": "xmask3d_rt",
    "kernels": "xmask3d_rt.kernels",
    "export": "xmask3d_rt.export",
}
# The runtime labels without these; commands and the module's own evaluation may reach for them.
BEHIND = ("cli", "model", "training", "evaluation", "export")
MAY_REACH = ("__main__", "many", *BEHIND, "data")


def list_modules() -> dict[str, Path]:
    modules = {}
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            modules[".".join((package, *(p for p in parts if p != "__init__")))] = path
    return modules


def list_imports(path: Path, modules: dict[str, Path]) -> set[str]:
    """Modules of the package that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in modules else node.module for name in below]
        else:
            continue
        found |= {name for name in names if name in modules}
    return found


MODULES = list_modules()
IMPORTS = {name: list_imports(path, MODULES) for name, path in MODULES.items()}


def room(name: str) -> str:
    """Second part of a module's name: `xmask3d_rt.scene.cloud` lies in `scene`."""
    return f"{name}.".split(".")[1]


def test_no_import_cycle():
    # A package's own __init__ gathers what lies below it.
    graph = {
        name: {other for other in imports if other != name}
        for name, imports in IMPORTS.items()
        if MODULES[name].name != "__init__.py"
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(f"import cycle: {' → '.join(error.args[1])}") from None


def test_kernels_import_kernels_alone():
    for name, imports in IMPORTS.items():
        if room(name) == "kernels":
            assert {other for other in imports if room(other) != "kernels"} == set(), name


def test_runtime_does_not_import_what_lies_behind_it():
    for name, imports in IMPORTS.items():
        if room(name) in (*MAY_REACH, "kernels"):
            continue
        reached = {other for other in imports if room(other) in BEHIND}
        assert reached == set(), f"{name} imports {reached}"


def test_few_files_at_the_top():
    files = [path for path in (ROOT / "xmask3d_rt").iterdir() if path.is_file()]
    assert len(files) <= 14, sorted(path.name for path in files)
