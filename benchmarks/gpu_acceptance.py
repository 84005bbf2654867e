"""Everything worth knowing about a GPU machine, in one command of under nine minutes.

    python benchmarks/gpu_acceptance.py --out DIR [--wheels DIR] [--golden DIR]

Needs torch and triton; whatever else the package imports may come from a folder of wheels, without
network. Kernel and runtime tests on the device, parity of case A in fp32 and fp16, latency, kernel
benchmarks. Every step is a process of its own with its log in DIR/logs; what is finished is kept
in DIR/state.json, so the same command goes on where the last one stopped (out of time, or
interrupted). `--preset tiny --device cpu` exercises the script itself.

Exit code: 0 all steps passed, 1 a step failed, 3 time was up before the last one.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BUDGET = 530  # seconds
TAIL_LINES = 15
PATIENCE = 10  # seconds a step may take to stop: a build keeps what it has finished
KEPT_BY_MACHINE = ("torch", "triton", "nvidia", "pytorch_triton")
MODULES = (
    *("numpy", "scipy", "safetensors", "PIL", "plyfile", "regex", "ftfy", "diffusers", "typer"),
    *("rich", "onnx", "onnxscript", "pytest", "filelock", "hypothesis", "psutil", "pydantic"),
)
FAILED, OUT_OF_TIME = 1, 3


@dataclass(frozen=True)
class Step:
    """One process.

    Attributes:
        name: key in the state, and of the log.
        command: arguments after the interpreter.
        needs: steps that must have passed before.
        results: files it writes, relative to the output folder.
        tf32: leave it to torch whether fp32 products may round their inputs; else they may not.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    tf32: bool = False


@dataclass(frozen=True)
class Settings:
    """Where things are and what is run; see `--help`."""

    out: Path
    preset: str
    device: str
    golden: Path | None
    views: int
    repeats: int


def list_steps(settings: Settings) -> list[Step]:
    """The steps, most telling first; the build takes longest and its users come after it."""
    out, device = settings.out, settings.device
    engines = str(out / "engines")
    kind = "gpu" if device.startswith("cuda") else "not gpu and not full and not slow"
    on_gpu = device.startswith("cuda")
    tests = ["tests/kernels"] if on_gpu else ["tests/kernels/test_vote.py"]
    runtime = ["tests/pipeline/test_features.py", *(["tests/engines"] if on_gpu else [])]
    target = ("--device", device)
    operators = () if device.startswith("cuda") else ("--op", "vote", "--budget", "0.05")
    # what half precision may cost is known for the full-size cases; a CPU exercises the script
    on_cpu = ("--backend", "onnxruntime", "--precision", "fp32")
    choice = ("--backend", "auto") if device.startswith("cuda") else on_cpu
    build = (
        *("export/build_engines.py", "--preset", settings.preset, "--weights", "synthetic"),
        *("--out", engines, *target, *choice),
    )
    latency = (
        *("benchmarks/latency.py", "--engine-dir", engines, *target),
        *("--views", str(settings.views), "--repeats", str(settings.repeats)),
        *("--baseline-repeats", str(max(1, settings.repeats // 4))),
        *("--json", str(out / "latency.json"), "--csv", str(out / "latency.csv")),
        *("--chart", str(out / "growth.png")),
    )
    return [
        Step("machine", ("-c", DESCRIBE, device, str(out / "machine.json"))),
        Step("kernel tests", ("-m", "pytest", *tests, "-m", kind, "-p", "no:cacheprovider")),
        Step("runtime tests", ("-m", "pytest", *runtime, "-m", kind, "-p", "no:cacheprovider")),
        *_list_parity(settings, "fp32", ("--module", "--preset", settings.preset), ()),
        Step(
            "kernel benchmarks",
            (
                *("-m", "benchmarks.kernels", *target, *operators),
                *("--csv", str(out / "kernels.csv")),
            ),
            results=("kernels.csv",),
        ),
        Step("build", build, results=("engines/manifest.json",)),
        *_list_parity(settings, "engines", ("--engine-dir", engines), ("build",)),
        # the released code ran with torch's own settings, and so does the baseline here
        Step(
            "latency", latency, ("build",), ("latency.json", "latency.csv", "growth.png"), tf32=True
        ),
    ]


def _list_parity(
    settings: Settings, label: str, subject: tuple[str, ...], needs: tuple[str, ...]
) -> list[Step]:
    """Case A where its reference is at hand; else a room, recorded by the module itself."""
    report = f"parity_{label}.json"
    command = ("export/verify.py", *subject, "--device", settings.device)
    ending = ("--json", str(settings.out / report))
    if settings.golden is not None:
        files = [str(settings.golden / f"case_A_{kind}.npz") for kind in ("inputs", "golden")]
        case = ("--inputs", files[0], "--golden", files[1])
        return [Step(f"parity {label}", (*command, *case, *ending), needs, (report,))]
    room, reference = str(settings.out / "room"), str(settings.out / "room.npz")
    steps = []
    if label == "fp32":
        views = str(settings.views)
        steps = [
            Step("room", ("-c", MAKE_ROOM, room, views)),
            Step("record", (*command, "--scene", room, "--record", reference), ("room",)),
        ]
    case = ("--scene", room, "--golden", reference)
    needs = (*needs, "record")
    return [*steps, Step(f"parity {label}", (*command, *case, *ending), needs, (report,))]


DESCRIBE = """
import json, pathlib, sys, torch
from benchmarks.rows import describe_setup, list_versions
from xmask3d_rt.cli.doctor import diagnose
device = torch.device(sys.argv[1])
found = {**describe_setup(device), "versions": list_versions(), "doctor": diagnose().to_dict()}
if device.type == "cuda":
    found["memory_gib"] = torch.cuda.get_device_properties(device).total_memory / 2**30
    found["capability"] = torch.cuda.get_device_capability(device)
    x = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    torch.cuda.synchronize()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    x @ x
    begin.record()
    for _ in range(10):
        x @ x
    end.record()
    end.synchronize()
    found["bf16_tflops"] = 10 * 2 * 8192**3 / begin.elapsed_time(end) / 1e9
pathlib.Path(sys.argv[2]).write_text(json.dumps(found, indent=2))
print(json.dumps({k: v for k, v in found.items() if k != "doctor"}, indent=2))
"""

MAKE_ROOM = """
import pathlib, sys
from xmask3d_rt.cli.demo import make_room
make_room(pathlib.Path(sys.argv[1]), seed=0, views=int(sys.argv[2]))
"""


def prepare_paths(out: Path, wheels: Path | None) -> dict[str, str]:
    """Environment of the steps: packages from the wheels, and this checkout as a package.

    `kernels/` and `export/` import as parts of `xmask3d_rt`; where it is not installed, a folder
    of links stands in for that.
    """
    paths = [str(ROOT)]
    if wheels is not None:
        site = out / "site"
        found = [w for w in sorted(wheels.glob("*.whl")) if not w.name.startswith(KEPT_BY_MACHINE)]
        if found and not site.is_dir():
            pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps")
            subprocess.run([*pip, "--target", str(site), *map(str, found)], check=True)
        paths.append(str(site))
    if importlib.util.find_spec("xmask3d_rt") is None:
        paths.insert(0, str(_link_package(out / "links")))
        paths.remove(str(ROOT))
        paths.append(str(ROOT))
    existing = os.environ.get("PYTHONPATH")
    joined = os.pathsep.join([*paths, *([existing] if existing else [])])
    return {**os.environ, "PYTHONPATH": joined}


def _link_package(folder: Path) -> Path:
    package = folder / "xmask3d_rt"
    package.mkdir(parents=True, exist_ok=True)
    entries = {path.name: path for path in (ROOT / "xmask3d_rt").iterdir()}
    entries |= {name: ROOT / name for name in ("kernels", "export")}
    for name, path in entries.items():
        link = package / name
        if not link.exists():
            link.symlink_to(path)
    return folder


def find_missing(env: dict[str, str]) -> list[str]:
    """Modules that the steps cannot import."""
    code = (
        "import importlib.util, sys\n"
        "print(*(m for m in sys.argv[1:] if importlib.util.find_spec(m) is None))"
    )
    command = [sys.executable, "-c", code, "torch", "triton", "xmask3d_rt.kernels", *MODULES]
    outcome = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return outcome.stdout.split()


def run_step(step: Step, out: Path, env: dict[str, str], seconds: float) -> dict[str, Any]:
    """Run a step for at most so long; its entry in the state."""
    from xmask3d_rt.system.processes import start_child  # after `find_missing`

    log = out / "logs" / f"{step.name.replace(' ', '_')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with (
        log.open("w") as stream,
        start_child(
            (sys.executable, *step.command),
            PATIENCE,
            cwd=ROOT,
            env=env if step.tf32 else {**env, "NVIDIA_TF32_OVERRIDE": "0"},
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a terminal's Ctrl-C reaches this process alone
        ) as process,
    ):
        try:
            code: int | None = process.wait(max(1.0, seconds))
        except subprocess.TimeoutExpired:
            code = None
    status = "out of time" if code is None else "passed" if code == 0 else "failed"
    missing = [name for name in step.results if not (out / name).exists()]
    if status == "passed" and missing:
        status = "failed"
    lines = log.read_text(errors="replace").splitlines()
    return {
        "status": status,
        "seconds": round(time.monotonic() - started, 1),
        "code": code,
        "missing": missing,
        "tail": lines[-TAIL_LINES:],
    }


def summarize(out: Path, state: dict[str, Any]) -> dict[str, Any]:
    """The figures of all finished steps in one place."""
    summary: dict[str, Any] = {
        "steps": {name: {k: v for k, v in e.items() if k != "tail"} for name, e in state.items()}
    }
    for name in ("machine", "parity_fp32", "parity_engines", "latency"):
        path = out / f"{name}.json"
        if path.is_file():
            summary[name] = json.loads(path.read_text())
    summary.get("machine", {}).pop("doctor", None)
    return summary


def run_all(
    steps: Sequence[Step], out: Path, env: dict[str, str], budget: float, again: Sequence[str]
) -> dict[str, Any]:
    """Run what is not done yet, writing the state after every step."""
    path = out / "state.json"
    state: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    state = {name: entry for name, entry in state.items() if name not in again}
    deadline = time.monotonic() + budget
    for step in steps:
        if state.get(step.name, {}).get("status") == "passed":
            print(f"{step.name}: passed before")
            continue
        blocked = [n for n in step.needs if state.get(n, {}).get("status") != "passed"]
        left = deadline - time.monotonic()
        if blocked:
            state[step.name] = {"status": "not run", "reason": f"needs {', '.join(blocked)}"}
        elif left <= 1:
            state[step.name] = {"status": "out of time", "reason": "no time left"}
        else:
            state[step.name] = run_step(step, out, env, left)
        entry = state[step.name]
        print(f"{step.name}: {entry['status']} {entry.get('seconds', '')}", flush=True)
        if entry["status"] == "failed":
            print("  " + "\n  ".join(entry["tail"]), flush=True)
        _write_json(path, state)
        _write_json(out / "summary.json", summarize(out, state))
    return state


def _write_json(path: Path, values: dict[str, Any]) -> None:
    from xmask3d_rt.files import atomic_write  # after `find_missing`

    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2))


def find_golden(given: Path | None) -> Path | None:
    """Folder of the reference cases: given, or beside or inside the checkout."""
    beside = (ROOT.parent / "shared" / "golden", ROOT / "shared" / "golden")
    for folder in beside if given is None else (given,):
        if (folder / "case_A_golden.npz").is_file():
            return folder
    if given is not None:
        raise SystemExit(f"error: {given} holds no case_A_golden.npz")
    return None


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="results and state")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install from")
    parser.add_argument("--golden", type=Path, help="folder of the reference cases")
    parser.add_argument("--preset", default="b15n4")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds in all")
    parser.add_argument("--views", type=int, default=4, help="views of the latency scene")
    parser.add_argument("--repeats", type=int, default=20, help="timed calls")
    parser.add_argument("--threads", type=int, help="CPU threads of every step")
    parser.add_argument("--again", action="append", default=[], help="run this step anew")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the acceptance; returns the exit code."""
    options = parse_arguments(arguments)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # started in the background of a shell; steps out of time are stopped by Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    # the reference cases are those of the full-size model
    golden = find_golden(options.golden) if options.preset == "b15n4" else None
    env = prepare_paths(out, options.wheels)
    if options.threads:
        env |= {"OMP_NUM_THREADS": str(options.threads)}
    missing = find_missing(env)
    if missing:
        print(f"error: cannot import {', '.join(missing)}; give their wheels with --wheels")
        return FAILED
    # this process needs the package as well, but comes before the wheels are unpacked
    sys.path += [p for p in env["PYTHONPATH"].split(os.pathsep) if p not in sys.path]
    settings = Settings(out, options.preset, options.device, golden, options.views, options.repeats)
    steps = list_steps(settings)
    unknown = sorted(set(options.again) - {step.name for step in steps})
    if unknown:
        print(f"error: no step {unknown[0]!r}; steps: {', '.join(s.name for s in steps)}")
        return FAILED
    _write_json(out / "settings.json", {k: str(v) for k, v in dataclasses.asdict(settings).items()})
    state = run_all(steps, out, env, options.budget, options.again)
    outcomes = {state[step.name]["status"] for step in steps}
    print(f"results are in {out}")
    if "failed" in outcomes:
        return FAILED
    return OUT_OF_TIME if outcomes != {"passed"} else 0


if __name__ == "__main__":
    sys.exit(main())
