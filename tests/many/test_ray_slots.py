"""Jobs on Ray actors, one of which is killed half-way."""

import json
import os
import signal
import sys

import pytest
from worker_functions import Opener

from xmask3d_rt.many.jobs import LOG_FILE, Job, JobLog, run_jobs
from xmask3d_rt.many.slots import open_slots
from xmask3d_rt.many.workers import Resources


@pytest.fixture
def ray_session(monkeypatch):
    """A cluster on this machine whose workers find this folder's modules."""
    ray = pytest.importorskip("ray")
    paths = [os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_two_ray_workers_lose_nothing_when_one_is_killed(ray_session, tmp_path):
    """Kill −9 half-way: the result equals a serial run, no scene missing or doubled."""
    names = [f"scene{i}" for i in range(12)]
    outputs = {}
    for kind in ("serial", "ray"):
        folder = tmp_path / kind
        jobs = [Job(name, (name, i)) for i, name in enumerate(names)]
        killed = []

        def kill_half_way(done, total, folder=folder, killed=killed):
            if done == 6 and not killed:
                last = json.loads((folder / LOG_FILE).read_text().splitlines()[-1])
                killed.append(int(last["worker"].rsplit(":", 1)[1]))
                os.kill(killed[0], signal.SIGKILL)

        with JobLog.open(folder) as log:
            on_ray = kind == "ray"
            options = (Opener(str(folder)), 2 if on_ray else 1, "local" if on_ray else None)
            with open_slots(*options, Resources()) as slots:
                progress = kill_half_way if on_ray else None
                assert run_jobs(jobs, slots, log, progress=progress) == {}
        assert bool(killed) is on_ray
        records = [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()]
        assert sorted(r["scene"] for r in records) == sorted(names)
        outputs[kind] = {name: (folder / f"{name}.txt").read_text() for name in names}
        workers = {r["worker"] for r in records}
        assert len(workers) == (3 if on_ray else 1)  # two, and the one in place of the dead
    assert outputs["ray"] == outputs["serial"]


@pytest.mark.slow
def test_a_cluster_without_room_is_named(ray_session, tmp_path):
    with (
        pytest.raises(ValueError, match="no machine of the cluster has a GPU for a worker"),
        open_slots(Opener(str(tmp_path)), 1, "local", Resources(gpu=True)),
    ):
        raise AssertionError("no worker can be placed")
    opener = Opener(str(tmp_path))
    with JobLog.open(tmp_path) as log, open_slots(opener, 1, "local", Resources()) as slots:
        failed = run_jobs([Job("broken", ("broken", 1))], slots, log, attempts=1)
    assert failed == {"broken": "RuntimeError: cannot work on broken second line"}


def test_ray_must_be_installed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(ValueError, match=r"--ray needs Ray .*pip install ray"),
        open_slots(Opener(str(tmp_path)), 1, "local", Resources()),
    ):
        raise AssertionError("no Ray, no slots")


@pytest.mark.slow
def test_a_cluster_that_does_not_answer_is_named(ray_session, tmp_path):
    with (
        pytest.raises(ValueError, match="no cluster is reached"),
        open_slots(Opener(str(tmp_path)), 1, "auto", Resources()),
    ):
        raise AssertionError("there is no cluster")
