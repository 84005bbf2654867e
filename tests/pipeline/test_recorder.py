"""What a run keeps about itself."""

import pytest
import torch

from xmask3d_rt.pipeline.recorder import Recorder


@pytest.mark.parametrize("keeps_values", [False, True])
def test_values_are_kept_where_asked_for(keeps_values):
    recorder, first, second = Recorder(keeps_values=keeps_values), torch.zeros(1), torch.ones(1)
    recorder.record(coords=first, queries=first)
    recorder.record(queries=second)
    assert recorder.values == ({"coords": first, "queries": second} if keeps_values else {})


def test_seconds_of_a_stage_add_up(monkeypatch):
    ticks = iter([1.0, 1.25, 3.0, 3.5, 4.0, 4.125])
    monkeypatch.setattr("xmask3d_rt.pipeline.recorder.time.perf_counter", lambda: next(ticks))
    recorder = Recorder()
    for stage in ("UNet", "labels", "UNet"):
        with recorder.measure(stage):
            assert stage != "labels" or "labels" not in recorder.seconds
    assert recorder.seconds == {"UNet": 0.375, "labels": 0.5}


def test_a_stage_ends_when_its_work_is_done():
    log = []
    recorder = Recorder(synchronize=lambda: log.append("synchronize"))
    with recorder.measure("UNet"):
        log.append("queue")
    assert log == ["queue", "synchronize"]
