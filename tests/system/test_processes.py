"""Child processes end with their parent, and commands within their time."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from xmask3d_rt.system import processes
from xmask3d_rt.system.processes import (
    CANNOT_RUN,
    call_apart,
    describe_status,
    end_tree,
    run_command,
    start_child,
    tie_to_parent,
)

PYTHON = (sys.executable, "-c")
SLEEP = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
# a parent that starts a child, which says its own id
PARENT = """
import sys
from xmask3d_rt.system.processes import start_child
with start_child([sys.executable, "-c", sys.argv[1]]) as process:
    process.wait()
"""


def wait_until_gone(pid, seconds=10.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_child_ends_with_its_parent(number):
    command = [sys.executable, "-c", PARENT, SLEEP]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        child = int(parent.stdout.readline())
        assert psutil.pid_exists(child)
        parent.send_signal(number)
        parent.wait()
        assert wait_until_gone(child)


APART = """
import os, sys, time
from xmask3d_rt.system.processes import call_apart

def work():
    print(os.getpid(), flush=True)
    time.sleep(60)

if __name__ == "__main__":
    call_apart(work)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_call_apart_ends_with_its_caller(number, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(APART)
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        child = int(parent.stdout.readline())
        parent.send_signal(number)
        parent.wait()
        assert wait_until_gone(child)


def test_call_apart_returns_what_the_function_does():
    pid, total = call_apart(measure, [1, 2, 3])
    assert (pid != os.getpid(), total) == (True, 6)


def measure(numbers):
    return os.getpid(), sum(numbers)


def raise_error():
    raise LookupError("no such scene")


def be_killed():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("function", "words"), [(raise_error, "exit code 1"), (be_killed, "signal SIGKILL")]
)
def test_failed_call_apart_rejected(function, words):
    with pytest.raises(ChildProcessError, match=f"{function.__name__} failed .* {words}"):
        call_apart(function)


def test_command_and_what_it_prints():
    outcome = run_command((*PYTHON, "import os; os.write(1, b'a\\xff'); raise SystemExit('no')"))
    assert (outcome.status, outcome.stdout, outcome.stderr.strip()) == (1, "a\ufffd", "no")
    assert run_command((*PYTHON, "import os; os.abort()")).status == -signal.SIGABRT


def test_command_sees_usual_signals():
    """Python ignores SIGPIPE; a program it becomes must not."""
    code = "import signal; print(signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN)"
    shell = f"yes | head -1 > /dev/null; {sys.executable} -c '{code}'"
    assert run_command(("bash", "-c", f"set -o pipefail; {shell}")).stderr == ""


def test_hanging_command_ends_with_all_below_it():
    """Also where a grandchild holds the output open."""
    started = time.monotonic()
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}])"
    outcome = run_command((*PYTHON, child), timeout=3)
    assert outcome.status is None
    assert time.monotonic() - started < 20
    assert wait_until_gone(int(outcome.stdout))


def test_missing_command():
    outcome = run_command(("/no/such/tool",))
    assert outcome.status == CANNOT_RUN
    assert outcome.stderr == "cannot run /no/such/tool: No such file or directory\n"


def test_patience_lets_a_child_save(tmp_path):
    code = (
        "import pathlib, sys, time\n"
        "try:\n    print(1, flush=True); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    pathlib.Path(sys.argv[1]).touch()"
    )
    saved = tmp_path / "saved"
    with start_child((*PYTHON, code, str(saved)), 20, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
    assert saved.exists()
    process.stdout.close()


def test_ended_child_is_no_trouble():
    process = subprocess.Popen((*PYTHON, ""))
    process.wait()
    end_tree(process, 1.0)
    assert process.returncode == 0


def test_supervisor_where_the_kernel_ends_no_orphans():
    """The way of macOS and Windows."""
    code = (
        "import sys\nfrom xmask3d_rt.system.processes import _supervise\n"
        "sys.exit(_supervise(int(sys.argv[1]), sys.argv[2:]))"
    )
    parent = subprocess.Popen((*PYTHON, "import time; time.sleep(60)"))
    command = (*PYTHON, code, str(parent.pid), *PYTHON, SLEEP)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as supervisor:
        child = int(supervisor.stdout.readline())
        parent.kill()
        parent.wait()
        assert wait_until_gone(child)
        assert supervisor.wait() == 1
    assert subprocess.run((*PYTHON, code, str(os.getpid()), *PYTHON, "exit(3)")).returncode == 3


def test_watcher_where_the_kernel_ends_no_orphans(monkeypatch):
    code = (
        "import sys, time\nfrom xmask3d_rt.system import processes\n"
        "processes.sys.platform = 'darwin'\n"
        "processes.die_with_parent(int(sys.argv[1]))\nprint('ready', flush=True)\ntime.sleep(60)"
    )
    parent = subprocess.Popen((*PYTHON, "import time; time.sleep(60)"))
    with subprocess.Popen((*PYTHON, code, str(parent.pid)), stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"ready\n"
        assert child.poll() is None
        parent.kill()
        parent.wait()
        assert child.wait(20) == 1


def test_orphan_from_the_start_ends_at_once():
    command = tie_to_parent((*PYTHON, SLEEP))
    command[3] = "1"  # not the parent
    done = subprocess.run(command, capture_output=True, timeout=30)
    assert (done.returncode, done.stdout) == (1, b"")


def test_statuses_in_words():
    assert describe_status(3) == "exit code 3"
    assert describe_status(-signal.SIGSEGV) == "signal SIGSEGV"
    assert describe_status(-250) == "signal 250"
    assert processes.describe_status(None) == "exit code None"
