"""One training step of the full-size module against the recorded step of the released code."""

import pytest
import torch

from xmask3d_rt.export.parity.train_step import check_train_step


@pytest.mark.full
@pytest.mark.timeout(7200)
def test_every_row_of_a_training_step_holds(shared):
    rows = check_train_step(shared / "golden" / "train_step.npz", "b15n4", torch.device("cpu"))
    for row in rows:
        limit = "none" if row.limit is None else f"{row.limit:g}"
        print(f"{row.stage:<30}{row.metric:<28}{row.value:<12.3g}{limit}")
    assert [row for row in rows if not row.ok] == []
    assert len(rows) > 70
