"""Cores and memory of the process, also where the Unix ways of asking are missing."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from xmask3d_rt import Segmenter
from xmask3d_rt.system import memory


def test_cores_are_those_the_process_may_use():
    own = psutil.Process()
    if not hasattr(own, "cpu_affinity"):
        pytest.skip("this system does not bind processes to cores")
    code = (
        "import psutil; from xmask3d_rt.system.memory import count_cores\n"
        "process = psutil.Process(); process.cpu_affinity(process.cpu_affinity()[:1])\n"
        "print(count_cores())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "1"
    assert memory.count_cores() == len(own.cpu_affinity())


def test_cores_without_affinity(monkeypatch):
    class Plain:
        """A process as on macOS."""

    monkeypatch.setattr(memory.psutil, "Process", Plain)
    assert memory.count_cores() == os.cpu_count()
    monkeypatch.setattr(memory.psutil, "cpu_count", lambda: None)
    monkeypatch.setattr(memory.os, "cpu_count", lambda: None)
    assert memory.count_cores() == 1


def test_threads(monkeypatch):
    monkeypatch.setattr(memory, "count_cores", lambda: 100)
    assert [memory.check_threads(count) for count in (None, 1, 8, 400)] == [None, 1, 8, 400]


@pytest.mark.parametrize(
    ("threads", "error", "message"),
    [
        (0, ValueError, r"threads must lie in 1\.\.64, got 0; this process may use 2 cores"),
        (-1, ValueError, "got -1"),
        (1000, ValueError, "got 1000"),
        (10**14, ValueError, "got 100000000000000"),
        (True, TypeError, "threads must be a whole number, got True"),
        ("2", TypeError, "got '2'"),
        (1.5, TypeError, r"got 1\.5"),
    ],
)
def test_threads_that_do_not_help_rejected(monkeypatch, threads, error, message):
    monkeypatch.setattr(memory, "count_cores", lambda: 2)
    with pytest.raises(error, match=message):
        memory.check_threads(threads)
    with pytest.raises(error, match=message):
        Segmenter("nowhere", threads=threads)


@pytest.mark.parametrize("way", ["proc", "getrusage", "macOS", "Windows", "nothing"])
def test_peak_memory(way, monkeypatch):
    """At least what the process has now; the unit of getrusage differs between systems."""
    rss = psutil.Process().memory_info().rss
    if way != "proc":

        def missing(path, *args, **kwargs):
            raise FileNotFoundError(path)

        monkeypatch.setattr(Path, "read_text", missing)
    if way == "macOS":
        import resource

        peak = type("Usage", (), {"ru_maxrss": 5 * 2**30})
        monkeypatch.setattr(resource, "getrusage", lambda who: peak)
        monkeypatch.setattr(memory.sys, "platform", "darwin")
        assert memory.read_peak_memory() == 5 * 2**30
        return
    if way == "Windows":
        found = type("Memory", (), {"rss": 1, "peak_wset": 7 * 2**30})
        monkeypatch.setattr(memory.psutil, "Process", lambda: FakeProcess(found))
        assert memory.read_peak_memory() == 7 * 2**30
        return
    if way == "nothing":
        monkeypatch.setitem(sys.modules, "resource", None)
    assert 0.9 * rss < memory.read_peak_memory() < 100 * rss


class FakeProcess:
    def __init__(self, found):
        self.memory_info = lambda: found


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0.0 MiB"),
        (1.5 * 2**20, "1.5 MiB"),
        (2**30 - 2**20, "1023.0 MiB"),
        (3.5 * 2**30, "3.50 GiB"),
    ],
)
def test_bytes_in_words(size, text):
    assert memory.format_bytes(size) == text
