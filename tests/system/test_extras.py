"""Hints name packages that an index has."""

import runpy
from pathlib import Path

import pytest
import setuptools

from xmask3d_rt.system.extras import EXTRAS, describe_install

SETUP = Path(__file__).parents[2] / "setup.py"


def test_extras_are_those_of_the_package(monkeypatch):
    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    monkeypatch.chdir(SETUP.parent)
    declared = runpy.run_path(str(SETUP))["EXTRAS"]
    for extra, packages in EXTRAS.items():
        assert tuple(line.split(">=")[0] for line in declared[extra]) == packages


@pytest.mark.parametrize("extra", EXTRAS)
def test_hints_are_commands(extra):
    assert describe_install(extra) == f"pip install {' '.join(EXTRAS[extra])}"


def test_no_hint_names_this_package_on_an_index():
    files = [
        *Path(SETUP.parent, "xmask3d_rt").rglob("*.py"),
        *Path(SETUP.parent, "export").glob("*.py"),
    ]
    for file in files:
        assert "pip install 'xmask3d_rt" not in file.read_text(), file
        assert "with python export/" not in file.read_text(), file
