"""Workers for tests, importable by the processes that a test starts."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Opener:
    """Writes each payload's square into a file, and dies or fails as the payload's name says."""

    folder: str
    opened: str = ""

    def __call__(self, number: int):
        (Path(self.folder) / f"opened-{os.getpid()}").touch()
        return self.work

    def work(self, payload):
        name, value = payload
        marker = Path(self.folder) / f"tried-{name}"
        tries = int(marker.read_text()) if marker.exists() else 0
        marker.write_text(str(tries + 1))
        if "poison" in name or ("killed" in name and not tries):
            os.kill(os.getpid(), signal.SIGKILL)
        if "damaged" in name:
            raise ValueError(f"{name} is no cloud")
        if "broken" in name or ("flaky" in name and not tries):
            raise RuntimeError(f"cannot work on {name}\nsecond line")
        time.sleep(0.01)
        out = Path(self.folder) / f"{name}.txt"
        out.write_text(str(value**2))
        return {"files": {out.name: out.stat().st_size}}
