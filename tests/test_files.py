"""Files are whole or absent: full disks, killed writers, and what an error says."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from fuzzing import assert_clear

from xmask3d_rt import files
from xmask3d_rt.errors import EngineError
from xmask3d_rt.files import atomic_write, describe_write_errors, remove_leftovers
from xmask3d_rt.scene.rgbd_writer import atomic_folder

WRITE_AND_WAIT = """
import sys, time
from xmask3d_rt.files import atomic_write
with atomic_write(sys.argv[1]) as temporary:
    temporary.write_text("half")
    temporary.with_name("of a library").write_text("more")
    print("writing", flush=True)
    time.sleep(60)
"""
SWAP_AND_WAIT = """
import os, sys, time
from xmask3d_rt import files
from xmask3d_rt.scene import rgbd_writer

def replace(source, target):
    rename(source, target)
    print("swapping", flush=True)
    time.sleep(60)

with rgbd_writer.atomic_folder(sys.argv[1]) as partial:
    (partial / "color").mkdir()
    rename, files.os.replace = os.replace, replace
"""


def start(script, path):
    """A process that has come to the middle of its write."""
    command = [sys.executable, "-c", script, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() in ("writing", "swapping")
    return process


def kill(process):
    process.kill()
    process.wait()
    process.stdout.close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(path, text="whole"):
    with atomic_write(path) as temporary:
        temporary.write_text(text)


def test_leftovers_of_a_killed_write_are_removed_by_the_next(tmp_path):
    process = start(WRITE_AND_WAIT, tmp_path / "a.ply")
    kill(process)
    assert len(names(tmp_path)) == 1
    write(tmp_path / "b.json")
    assert names(tmp_path) == ["b.json"]


def test_writes_under_way_are_left_alone(tmp_path):
    process = start(WRITE_AND_WAIT, tmp_path / "a.ply")
    try:
        (before,) = names(tmp_path)
        write(tmp_path / "b.json")
        assert names(tmp_path) == [before, "b.json"]
    finally:
        kill(process)


def test_killed_swap_of_folders_gives_the_old_one_back(tmp_path):
    with atomic_folder(tmp_path / "room") as partial:
        (partial / "pose").mkdir()
    kill(start(SWAP_AND_WAIT, tmp_path / "room"))
    assert "room" not in names(tmp_path)
    write(tmp_path / "b.json")
    assert names(tmp_path) == ["b.json", "room"]
    assert names(tmp_path / "room") == ["pose"]


def test_failed_swap_of_folders_gives_the_old_one_back(tmp_path, monkeypatch):
    with atomic_folder(tmp_path / "room") as partial:
        (partial / "pose").mkdir()
    replace = os.replace

    def refuse_new(source, target):
        if Path(source).name == "new":
            raise PermissionError(errno.EACCES, "in use", str(source))
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", refuse_new)
    with (
        pytest.raises(PermissionError, match=r"cannot write .*room: permission denied"),
        atomic_folder(tmp_path / "room"),
    ):
        pass
    assert names(tmp_path) == ["room"]
    assert names(tmp_path / "room") == ["pose"]


def test_many_writers_in_one_folder(tmp_path):
    """None removes the temporaries of another, nor what it has written."""
    failures = []

    def work(index):
        try:
            for _ in range(20):
                write(tmp_path / f"{index}.txt", str(index))
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert names(tmp_path) == [f"{i}.txt" for i in range(4)]


def make_leftover(folder, host, pid, started):
    path = folder / f".a.ply-{host}-{pid}-{int(started)}-abcdefgh.tmp"
    path.mkdir()
    return path


def test_what_counts_as_left_behind(tmp_path):
    here, elsewhere = files._describe_host(), "0" * 8
    own = psutil.Process()
    kept = make_leftover(tmp_path, here, own.pid, own.create_time())
    reused = make_leftover(tmp_path, here, own.pid, own.create_time() - 1000)
    ended = make_leftover(tmp_path, here, 2**22, time.time())
    impossible = make_leftover(tmp_path, here, 10**30, time.time())
    fresh = make_leftover(tmp_path, elsewhere, 1, time.time())
    old = make_leftover(tmp_path, elsewhere, 2, time.time())
    os.utime(old, (0, 0))
    foreign = tmp_path / ".a.ply-notes.tmp"
    foreign.mkdir()
    remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == {kept, fresh, foreign}
    assert not any(path.exists() for path in (reused, ended, impossible, old))
    remove_leftovers(tmp_path / "gone")


def test_name_as_long_as_a_file_system_allows(tmp_path):
    target = tmp_path / ("n" * 251 + ".txt")
    write(target)
    assert target.read_text() == "whole"


def test_mode_is_that_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    with atomic_write(tmp_path / "written") as temporary:
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))  # as safetensors does
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "plain").stat().st_mode


DISK_FULL = """
import sys
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from xmask3d_rt.files import atomic_write

def save(kind, path):
    rng = np.random.default_rng(0)
    large = rng.random((800, 800, 3))
    if kind == "safetensors":
        save_file({"a": torch.from_numpy(large)}, path)
    elif kind == "npz":
        np.savez(path, a=large)
    elif kind == "tofile":
        large.tofile(path)
    elif kind in ("png", "jpg"):
        Image.fromarray((255 * large).astype(np.uint8)).save(path)
    elif kind == "torch":
        torch.save({"a": torch.from_numpy(large)}, path)
    else:
        path.write_text("x" * 10**7)

def write_frames(folder):
    from xmask3d_rt.scene.rgbd_writer import write_rgbd
    from xmask3d_rt.scene.view import View
    noise = np.random.default_rng(0).integers(0, 255, (600, 600, 3), np.uint8)
    write_rgbd([View(noise, np.ones((600, 600), np.float32), np.eye(3), np.eye(4))], folder)

try:
    write_frames(f"{sys.argv[1]}/out.frames")
except OSError as error:
    print("frames |", error)
for kind in ("safetensors", "npz", "tofile", "png", "jpg", "torch", "txt"):
    try:
        with atomic_write(f"{sys.argv[1]}/out.{kind}") as temporary:
            save(kind, temporary)
        print(kind, "written")
    except OSError as error:
        print(kind, "|", error)
"""
KINDS = ("frames", "safetensors", "npz", "tofile", "png", "jpg", "torch", "txt")


def test_full_disk(tmp_path):
    """On a disk of 256 KiB, whatever library writes."""
    mount = f"mount -t tmpfs -o size=256k none {tmp_path}"
    probe = subprocess.run(["unshare", "-Urm", "sh", "-c", mount], capture_output=True)
    if probe.returncode != 0:
        pytest.skip("needs the right to mount a small disk in a namespace of its own")
    run = f'{mount} && "$0" -c "$1" {tmp_path} && ls -A {tmp_path}'
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", run, sys.executable, DISK_FULL],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == [
        f"{kind} | cannot write {tmp_path}/out.{kind}: no space left on device; "
        "free some, or write to another disk"
        for kind in KINDS
    ], done.stderr


LIMITED = """
import resource, sys
from xmask3d_rt.files import atomic_write
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with atomic_write(sys.argv[1]) as temporary:
        temporary.write_bytes(bytes(5000))
except OSError as error:
    print(error)
"""


def test_file_too_large(tmp_path):
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "out.ply")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"cannot write {tmp_path}/out.ply: file too large" in done.stdout, done.stderr
    assert names(tmp_path) == []


def fail(target, error):
    with atomic_write(target):
        raise error


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(errno.ENOSPC, "full"), OSError, "no space left"),
        (PermissionError(errno.EACCES, "no", "/x/.o-.tmp"), PermissionError, None),
        (RuntimeError("I/O error: No space left on device (os error 28)"), OSError, "no space"),
        (OSError("a picture is truncated"), OSError, None),
        (FileNotFoundError(errno.ENOENT, "gone", "/elsewhere/depth.png"), OSError, None),
        (EngineError("no space"), EngineError, None),
        (ValueError("(os error 28)"), ValueError, None),
    ],
)
def test_errors_of_writing_name_the_target_alone(error, kind, words, tmp_path):
    """Errors about anything else pass as they are."""
    with pytest.raises(kind) as caught:
        fail(tmp_path / "out.ply", error)
    assert names(tmp_path) == []
    if words is None:
        assert caught.value is error
    else:
        assert_clear(caught.value, tmp_path / "out.ply")
        assert words in str(caught.value)
        assert caught.value.errno == errno.ENOSPC


def test_cause_of_a_library_error_counts(tmp_path):
    def serialize():
        try:
            raise OSError(errno.ENOSPC, "full")
        except OSError as error:
            raise RuntimeError("cannot serialize") from error

    with (
        pytest.raises(OSError, match="no space left"),
        describe_write_errors(tmp_path / "m.onnx"),
    ):
        serialize()


def test_unwritable_targets_rejected(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write .*file/out\.ply: .*; a folder on the way"):
        write(tmp_path / "file" / "out.ply")
    with (
        pytest.raises(FileNotFoundError, match=r"cannot write .*out\.ply: no such file"),
        atomic_write(tmp_path / "out.ply") as temporary,
    ):
        temporary.unlink()
    assert names(tmp_path) == ["file"]


def test_interrupt_by_a_signal_leaves_nothing(tmp_path):
    process = start(WRITE_AND_WAIT, tmp_path / "a.ply")
    process.send_signal(signal.SIGINT)
    process.wait()
    process.stdout.close()
    assert names(tmp_path) == []
