"""The acceptance run: steps, what is kept between runs, and what a failure or lack of time does."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import gpu_acceptance
from benchmarks.gpu_acceptance import FAILED, OUT_OF_TIME, ROOT, Settings, Step, run_all

SCRIPT = Path(gpu_acceptance.__file__)


@pytest.fixture
def env(tmp_path):
    return gpu_acceptance.prepare_paths(tmp_path, None)


def write(path, text="done"):
    return ("-c", f"import pathlib; pathlib.Path({str(path)!r}).open('a').write({text!r})")


def statuses(state):
    return {name: entry["status"] for name, entry in state.items()}


def test_finished_steps_are_not_run_again(tmp_path, env, capsys):
    steps = [
        Step("first", write(tmp_path / "first"), results=("first",)),
        Step("second", ("-c", "raise SystemExit('no device')")),
        Step("third", write(tmp_path / "third"), needs=("second",)),
    ]
    state = run_all(steps, tmp_path, env, 60, [])
    assert statuses(state) == {"first": "passed", "second": "failed", "third": "not run"}
    assert "no device" in capsys.readouterr().out
    assert state == json.loads((tmp_path / "state.json").read_text())
    steps[1] = Step("second", write(tmp_path / "second"))
    state = run_all(steps, tmp_path, env, 60, [])
    assert set(statuses(state).values()) == {"passed"}
    run_all(steps, tmp_path, env, 60, ["third"])
    counts = {p: (tmp_path / p).read_text().count("done") for p in ("first", "second", "third")}
    assert counts == {"first": 1, "second": 1, "third": 2}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["steps"]) == {"first", "second", "third"}


def test_missing_result_is_a_failure(tmp_path, env):
    state = run_all([Step("step", ("-c", "pass"), results=("report.json",))], tmp_path, env, 60, [])
    assert state["step"]["status"] == "failed"
    assert state["step"]["missing"] == ["report.json"]


SAVES_WHEN_INTERRUPTED = """
import pathlib, sys, time
pathlib.Path(sys.argv[1] + ".started").touch()
try:
    time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path(sys.argv[1]).write_text("saved")
"""


def test_out_of_time_interrupts_and_goes_on_next_time(tmp_path, env):
    saved = tmp_path / "saved"
    steps = [
        Step("long", ("-c", SAVES_WHEN_INTERRUPTED, str(saved))),
        Step("after", write(tmp_path / "after")),
    ]
    started = time.monotonic()
    state = run_all(steps, tmp_path, env, 2.5, [])
    assert time.monotonic() - started < 20
    assert statuses(state) == {"long": "out of time", "after": "out of time"}
    assert saved.read_text() == "saved"
    steps[0] = Step("long", ("-c", "pass"))
    assert set(statuses(run_all(steps, tmp_path, env, 60, [])).values()) == {"passed"}


@pytest.mark.parametrize("golden", [None, Path("/reference")])
def test_steps_of_a_gpu(tmp_path, golden):
    settings = Settings(tmp_path, "b15n4", "cuda:0", golden, views=4, repeats=20)
    steps = gpu_acceptance.list_steps(settings)
    names = [step.name for step in steps]
    wanted = ["machine", "kernel tests", "parity fp32", "kernel benchmarks", "build"]
    assert [name for name in names if name in wanted] == wanted
    assert names[-2:] == ["parity engines", "latency"]
    assert ("room" in names) == (golden is None)
    by_name = {step.name: step for step in steps}
    assert by_name["kernel tests"].command[-3] == "gpu"
    assert "auto" in by_name["build"].command
    assert by_name["latency"].tf32
    assert not by_name["parity fp32"].tf32
    known = set()
    for step in steps:
        assert set(step.needs) <= known
        known.add(step.name)


def test_checkout_imports_without_being_installed(tmp_path):
    links = gpu_acceptance._link_package(tmp_path / "links")
    assert gpu_acceptance._link_package(tmp_path / "links") == links  # a second run
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import xmask3d_rt, xmask3d_rt.kernels, xmask3d_rt.export\n"
        "print(xmask3d_rt.__file__, xmask3d_rt.kernels.__file__)"
    )
    found = subprocess.run(
        [sys.executable, "-S", "-c", code, str(links)], capture_output=True, text=True, check=False
    )
    # -S leaves out site-packages, and with them torch: the package itself is found first
    assert "No module named 'torch'" in found.stderr
    assert str(links / "xmask3d_rt" / "kernels") in found.stderr


def test_missing_modules_are_named(env, monkeypatch):
    assert gpu_acceptance.find_missing(env) == []
    monkeypatch.setattr(gpu_acceptance, "MODULES", ("numpy", "a_module_nobody_has"))
    assert gpu_acceptance.find_missing(env) == ["a_module_nobody_has"]


def test_unknown_step_and_reference_rejected(tmp_path, capsys):
    arguments = ["--out", str(tmp_path), "--preset", "tiny", "--device", "cpu"]
    assert gpu_acceptance.main([*arguments, "--again", "nothing"]) == FAILED
    assert (
        "no step 'nothing'; steps: machine, kernel tests, runtime tests, room"
        in capsys.readouterr().out
    )
    with pytest.raises(SystemExit, match=r"holds no case_A_golden\.npz"):
        gpu_acceptance.find_golden(tmp_path)


def test_no_time_left(tmp_path, capsys):
    arguments = ["--out", str(tmp_path), "--preset", "tiny", "--device", "cpu", "--budget", "0"]
    assert gpu_acceptance.main(arguments) == OUT_OF_TIME
    assert "machine: out of time" in capsys.readouterr().out


def test_script_describes_itself():
    found = subprocess.run(
        [sys.executable, str(SCRIPT), "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert "--wheels" in found.stdout
