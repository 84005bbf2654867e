"""A build that is killed at any step, or meets a full disk at any write, harms nothing."""

import contextlib
import errno
import os
import resource
import signal
import sys

import pytest
from fuzzing import assert_clear

from xmask3d_rt.config import Precision, get_preset
from xmask3d_rt.engines import Component, Manifest, WeightSource
from xmask3d_rt.engines.files import VERIFIED_NAME, describe_file
from xmask3d_rt.errors import EngineError
from xmask3d_rt.export.backends import engine_cache
from xmask3d_rt.export.backends.engine_cache import EngineCache
from xmask3d_rt.export.build.staging import CACHE_NAME, STAGING_NAME, open_staging

NAMES = ("unet", "heads")
STEPS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree"}


def write_component(staging, name, content):
    """Stage a component: a folder of two files, or one file."""
    if name == "heads":
        paths = [staging.start_file("heads.safetensors")]
    else:
        folder = staging.start_folder(name)
        paths = [folder / "model.onnx", folder / "model.onnx.data"]
    for path in paths:
        path.write_text(f"{name} {content}" * 50)
    files = tuple(describe_file(path, str(path.relative_to(staging.root))) for path in paths)
    component = Component(name, "onnxruntime", Precision.FP32, files, None, content, None)
    staging.finish(component)
    return component


def build(out, content, names=NAMES):
    """What a build does with files; returns what it had to make."""
    made = []
    with open_staging(out) as staging:
        with contextlib.suppress(EngineError):
            existing = Manifest.load(out)
            if all(
                existing.components.get(n) and existing.get(n).fingerprint == content for n in names
            ):
                return made
        parts = []
        for name in names:
            with staging.writing(name):
                found = staging.find(name, content)
                made += [] if found else [name]
                parts.append(found or write_component(staging, name, content))
        components = {part.name: part for part in parts}
        manifest = Manifest(get_preset("tiny"), WeightSource("synthetic"), {}, components, out)
        staging.commit(manifest, parts)
    return made


def list_files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != VERIFIED_NAME
    }


def run_child(work):
    """Run something in a process of its own; returns its wait status."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            work()
            os._exit(0)
        os._exit(1)
    return os.waitpid(pid, 0)[1]


def at_step(number, action):
    """Call `action` at the n-th step from here on that changes something on the disk."""
    counted = 0

    def hook(event, args):
        nonlocal counted
        writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
        opens = event == "open" and args[1] is None and args[2] & (os.O_WRONLY | os.O_RDWR)
        if event in STEPS or writes or opens:
            counted += 1
            if counted == number:
                action()

    sys.addaudithook(hook)


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def fill_disk():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def check_disk_error(error, folder):
    """One line that says why, and names a file of the folder that is no temporary."""
    assert_clear(error, folder)
    text = str(error).lower()
    assert "no space left" in text or "file too large" in text
    assert STAGING_NAME not in text
    assert ".tmp" not in text


def stage_and_stop(out, *names, content="new"):
    """A build that Ctrl-C ends before its commit."""
    with open_staging(out) as staging:
        for name in names:
            write_component(staging, name, content)
        raise KeyboardInterrupt


@pytest.fixture
def old(tmp_path):
    """A directory with a whole build in it, kernels compiled for it, and a file of the user."""
    out = tmp_path / "engines"
    assert build(out, "old") == list(NAMES)
    (out / CACHE_NAME).mkdir()
    (out / CACHE_NAME / "unet.kernels").write_text("compiled")
    (out / "notes.txt").write_text("mine")
    return out


EXPECTED = {
    *("heads.safetensors", "manifest.json", "notes.txt"),
    *("unet/model.onnx", "unet/model.onnx.data"),
}


def test_commit_replaces_everything(old):
    assert build(old, "new") == list(NAMES)
    assert set(list_files(old)) == EXPECTED
    assert Manifest.load(old).get("unet").fingerprint == "new"
    assert not (old / STAGING_NAME).exists()


def test_kill_at_every_step(old, tmp_path):
    """Whatever a killed build left, the next succeeds at once and leaves nothing of it."""
    completed = 0
    for number in range(1, 500):
        out = tmp_path / str(number)
        build(out, "old")
        (out / "notes.txt").write_text("mine")

        def work(out=out, number=number):
            at_step(number, kill)
            build(out, "new")

        status = run_child(work)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        made = build(out, "new")
        completed += made == []
        assert set(list_files(out)) == EXPECTED, f"step {number}"
        assert {path.name for path in out.iterdir() if path.name.startswith(".")} <= {VERIFIED_NAME}
        Manifest.load(out).verify(full=True)
        assert (out / "notes.txt").read_text() == "mine"
    assert number > 30
    assert completed > 5, "a commit that has begun is completed, not built again"


def test_first_build_killed_at_every_step(tmp_path):
    for number in range(1, 500):
        out = tmp_path / str(number)

        def work(out=out, number=number):
            at_step(number, kill)
            build(out, "new")

        if os.WIFEXITED(run_child(work)):
            break
        build(out, "new")
        assert set(list_files(out)) == EXPECTED - {"notes.txt"}, f"step {number}"
        Manifest.load(out).verify(full=True)
    assert number > 20


def test_full_disk_at_every_step(old, tmp_path):
    """The error names a file of the directory; the engines in use, or the new ones, are whole."""
    failures = 0
    for number in range(1, 500):
        out = tmp_path / str(number)
        build(out, "old")

        def work(out=out, number=number):
            at_step(number, fill_disk)
            try:
                build(out, "new")
            except (EngineError, OSError) as error:
                check_disk_error(error, out)
                os._exit(7)

        status = os.WEXITSTATUS(run_child(work))
        assert status in (0, 7), f"step {number}"
        failures += status == 7
        build(out, "new")
        assert set(list_files(out)) == EXPECTED - {"notes.txt"}, f"step {number}"
        assert {path.name for path in out.iterdir() if path.name.startswith(".")} <= {VERIFIED_NAME}
        Manifest.load(out).verify(full=True)
        if number > 30 and status == 0:
            break
    assert failures > 10


@pytest.mark.parametrize("limit", [0, 100, 400, 600])
def test_limit_on_file_sizes(old, limit):
    """Every file larger than the limit fails in the middle of its write."""
    before = list_files(old)

    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            build(old, "new")
        except OSError as error:
            check_disk_error(error, old)
            os._exit(7)

    assert os.WEXITSTATUS(run_child(work)) == 7
    assert {
        name: text for name, text in list_files(old).items() if STAGING_NAME not in name
    } == before
    build(old, "new")
    assert set(list_files(old)) == EXPECTED
    assert Manifest.load(old).get("heads").fingerprint == "new"


def test_stale_folder_of_replaced_parts_is_no_obstacle(old):
    """What builds before this one left when they were killed in the middle of a commit."""
    stale = old / STAGING_NAME / "replaced" / "unet"
    stale.mkdir(parents=True)
    (stale / "model.onnx").write_text("older still")
    (old / STAGING_NAME / "replaced" / "heads.safetensors").write_text("older still")
    build(old, "new")
    assert set(list_files(old)) == EXPECTED


def test_only_what_is_committed_is_moved(old):
    """A component of another, interrupted build does not slip in."""
    with pytest.raises(KeyboardInterrupt):
        stage_and_stop(old, "unet", content="abandoned")
    assert build(old, "new", ("heads",)) == ["heads"]
    assert b"old" in (old / "unet" / "model.onnx").read_bytes()
    assert not (old / STAGING_NAME).exists()


def test_second_build_at_the_same_time_rejected(old):
    with open_staging(old), pytest.raises(EngineError, match=r"another build into .* is running"):
        build(old, "new")
    build(old, "new")


def test_folder_that_is_a_file_rejected(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(EngineError, match=r"cannot write engines into .*file"),
        open_staging(tmp_path / "file" / "engines"),
    ):
        pytest.fail("opened")


def test_damaged_entries_are_built_again(old):
    with pytest.raises(KeyboardInterrupt):
        stage_and_stop(old, *NAMES)
    (old / STAGING_NAME / "entries" / "unet.json").write_text('{"name": 7}')
    assert build(old, "new") == ["unet"]


@pytest.fixture
def cached(tmp_path):
    cache, engine = EngineCache(tmp_path / "cache"), tmp_path / "engines" / "model.engine"
    engine.parent.mkdir()
    engine.write_bytes(b"0123456789")
    cache.store("unet", "key", engine, {"layers": 3})
    return cache, engine, tmp_path / "cache" / "unet-key.engine"


def test_cache_shares_no_file_with_engines(cached):
    cache, engine, kept = cached
    with engine.open("r+b") as stream:
        stream.write(b"X")
    assert kept.read_bytes() == b"0123456789"
    engine.unlink()
    assert cache.fetch("unet", "key", engine) == {"layers": 3}
    with engine.open("r+b") as stream:
        stream.write(b"Y")
    assert kept.read_bytes() == b"0123456789"


def test_changed_cache_entry_is_not_used(cached):
    cache, engine, kept = cached
    kept.write_bytes(b"0123456X89")  # of the right size
    engine.write_bytes(b"in use")
    assert cache.fetch("unet", "key", engine) is None
    assert engine.read_bytes() == b"in use"
    assert [path.name for path in engine.parent.iterdir()] == ["model.engine"]


@pytest.mark.parametrize("text", ["", "[]", '{"size": 10, "report": {}}', '{"size": "10"}'])
def test_damaged_cache_description_is_not_used(cached, text):
    cache, engine, kept = cached
    kept.with_suffix(".json").write_text(text)
    assert cache.fetch("unet", "key", engine) is None


def test_full_disk_while_fetching_names_the_engine(cached, monkeypatch):
    cache, engine, _ = cached
    monkeypatch.setattr(engine_cache.shutil, "copyfile", lambda *_: fill_disk())
    with pytest.raises(OSError, match=r"cannot write .*model\.engine: no space left on device"):
        cache.fetch("unet", "key", engine)
