"""Jobs on slots: each done once, whatever workers do; the log says so after a restart."""

import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from worker_functions import Opener

from xmask3d_rt.many.jobs import LOG_FILE, Job, JobLog, run_jobs
from xmask3d_rt.many.slots import open_slots
from xmask3d_rt.many.workers import LocalSlot, ProcessSlot, Resources, make_local_slots


def make_jobs(*names):
    return [Job(name, (name, i), key="1") for i, name in enumerate(names)]


def run(folder, jobs, workers=1, **options):
    with (
        JobLog.open(folder) as log,
        open_slots(Opener(str(folder)), workers, None, Resources()) as slots,
    ):
        return run_jobs(jobs, slots, log, **options)


def read_log(folder):
    return [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()]


def test_every_job_is_done_once_and_logged(tmp_path):
    jobs = make_jobs(*"abcde")
    seen = []
    assert run(tmp_path, jobs, progress=lambda *p: seen.append(p)) == {}
    assert seen == [(i, 5) for i in range(6)]
    assert [r["scene"] for r in read_log(tmp_path)] == list("abcde")
    assert {r["status"] for r in read_log(tmp_path)} == {"done"}
    assert (tmp_path / "d.txt").read_text() == "9"
    assert read_log(tmp_path)[0]["worker"].endswith(f":{os.getpid()}")
    seen.clear()
    assert run(tmp_path, jobs, progress=lambda *p: seen.append(p)) == {}
    assert seen == [(5, 5)]
    assert (tmp_path / "tried-a").read_text() == "1"


def test_missing_files_and_changed_jobs_are_done_again(tmp_path):
    run(tmp_path, make_jobs("a", "b", "c"))
    (tmp_path / "a.txt").unlink()
    changed = [*make_jobs("a", "b"), Job("c", ("c", 2), key="2")]
    run(tmp_path, changed)
    tries = [(tmp_path / f"tried-{n}").read_text() for n in "abc"]
    assert tries == ["2", "1", "2"]


def test_a_failing_job_is_tried_again_and_then_named(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        failed = run(tmp_path, make_jobs("a", "flaky", "broken", "b"), attempts=2)
    assert failed == {"broken": "RuntimeError: cannot work on broken second line"}
    assert "flaky: RuntimeError: cannot work on flaky second line; it is tried again" in caplog.text
    by_name = {r["scene"]: r for r in read_log(tmp_path)}
    assert by_name["broken"]["status"] == "failed"
    assert by_name["flaky"]["attempts"] == 2
    assert (tmp_path / "b.txt").is_file()
    assert run(tmp_path, make_jobs("broken"), attempts=1)  # a failed job is tried by the next run


def test_damaged_data_is_looked_at_once(tmp_path, caplog):
    failed = run(tmp_path, make_jobs("damaged", "a"))
    assert failed == {"damaged": "ValueError: damaged is no cloud"}
    assert (tmp_path / "tried-damaged").read_text() == "1"
    assert read_log(tmp_path)[0] == {
        "scene": "damaged",
        "status": "failed",
        "key": "1",
        "attempts": 1,
        "error": failed["damaged"],
    }
    assert not caplog.records


@pytest.mark.slow
def test_killed_workers_lose_nothing(tmp_path):
    names = ["a", "killed1", "b", "c", "killed2", "d", "poison", "e"]
    failed = run(tmp_path, make_jobs(*names), workers=2, attempts=2)
    assert list(failed) == ["poison"]
    assert "its worker died" in failed["poison"]
    records = read_log(tmp_path)
    assert sorted(r["scene"] for r in records) == sorted(names)  # none missing, none doubled
    for i, name in enumerate(names):
        assert name == "poison" or (tmp_path / f"{name}.txt").read_text() == str(i**2)
    # A dead worker costs its own slot a restart and nobody else one.
    assert len(list(tmp_path.glob("opened-*"))) <= 2 + 4
    tries = {n: (tmp_path / f"tried-{n}").read_text() for n in names}
    assert tries == dict.fromkeys("abcde", "1") | {
        "killed1": "2",
        "killed2": "2",
        "poison": "2",
    }


SCRIPT = """
import sys
import threading
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_jobs import make_jobs, run
if __name__ == "__main__":
    names = [f"job{{i}}" for i in range(400)]
    run(Path({folder!r}), make_jobs(*names), workers=2)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_and_its_workers_end(tmp_path):
    folder = tmp_path / "out"
    script = tmp_path / "run_many.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent), folder=str(folder)))
    process = subprocess.Popen([sys.executable, str(script)])
    while not (folder / LOG_FILE).is_file() or len(read_log_safely(folder)) < 5:
        assert process.poll() is None
        time.sleep(0.05)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
    first = len(read_log_safely(folder))
    assert 5 <= first < 400
    names = [f"job{i}" for i in range(first + 10)]
    assert run(folder, make_jobs(*names)) == {}
    assert sorted(r["scene"] for r in read_log(folder)) == sorted(names)


def read_log_safely(folder):
    lines = (folder / LOG_FILE).read_text().splitlines()
    return [line for line in lines if line.endswith("}")]


def test_a_line_cut_short_is_dropped(tmp_path, caplog):
    run(tmp_path, make_jobs("a", "b"))
    with (tmp_path / LOG_FILE).open("a") as stream:
        stream.write('{"scene": "c", "sta')
    run(tmp_path, make_jobs("a", "b", "c"))
    assert "dropped a damaged line" in caplog.text
    assert [r["scene"] for r in read_log(tmp_path)] == ["a", "b", "c"]


def test_bad_requests_rejected(tmp_path):
    with pytest.raises(ValueError, match="two scenes are called 'a'"):
        run(tmp_path, make_jobs("a", "b", "a"))
    with pytest.raises(ValueError, match="attempts must be >= 1, got 0"):
        run(tmp_path, make_jobs("a"), attempts=0)
    with pytest.raises(ValueError, match=r"workers must lie in 1\.\.\d+, got 0"):
        make_local_slots(Opener(""), 0)
    with JobLog.open(tmp_path) as log:
        with pytest.raises(ValueError, match="no slots"):
            run_jobs(make_jobs("a"), [], log)
        with (
            pytest.raises(ValueError, match="another run is working on"),
            JobLog.open(tmp_path),
        ):
            pass


def test_one_worker_is_this_process_several_are_others():
    assert [type(s) for s in make_local_slots(Opener(""), 1)] == [LocalSlot]
    slots = make_local_slots(Opener(""), 3)
    assert [type(s) for s in slots] == [ProcessSlot] * 3
    assert not multiprocessing.active_children()  # started with their first job


def test_a_run_may_wait_for_another(tmp_path):
    order = []

    def second():
        with JobLog.open(tmp_path, wait=True):
            order.append("second")

    with JobLog.open(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.3)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
