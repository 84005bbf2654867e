"""vote: kernels against the reference, exactly."""

import pytest
import torch

from xmask3d_rt.kernels import finish_votes, make_votes, vote
from xmask3d_rt.kernels.vote.reference import finish_votes_reference, vote_reference


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("classes", [1, 19, 200])
@pytest.mark.parametrize("n", [1, 31, 1009])
def test_sizes(n, classes, heads):
    torch.manual_seed(n)
    votes, expected = (make_votes(n, classes, num_heads=heads) for _ in range(2))
    for view in range(5):
        seen = torch.randperm(n)[: n // 2 + 1]
        labels = torch.randint(min(classes, 3), (heads, len(seen)))
        scores = torch.rand(seen.shape)
        padding = torch.full((view,), -1)
        vote(
            votes,
            torch.cat([seen, padding]),
            torch.cat([labels, padding.expand(heads, -1)], dim=1),
            torch.cat([scores, padding.float()]),
        )
        vote_reference(expected, seen, labels, scores)
    for ours, theirs in zip(votes, expected, strict=True):
        assert torch.equal(ours, theirs)
    nearest = torch.randint(n, (n,))
    wanted = finish_votes_reference(expected, nearest)
    result = finish_votes(votes, nearest)
    assert torch.equal(result.label, wanted.label)
    torch.testing.assert_close(result.score, wanted.score, rtol=1e-6, atol=0)


def test_empty():
    votes = make_votes(0, 4)
    none = torch.zeros(0, dtype=torch.int64)
    vote(votes, none, none[None], none.float())
    assert finish_votes(votes, none).label.shape == (1, 0)
