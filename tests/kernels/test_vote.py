"""vote: counting, ties, scores, unseen points, the golden scene, both forms, refusals."""

import functools
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xmask3d_rt.kernels import (
    PairVotes,
    SceneVotes,
    VotedLabels,
    finish_votes,
    make_votes,
    nearest_fill,
    vote,
)
from xmask3d_rt.kernels.vote import pairs as pairs_form
from xmask3d_rt.kernels.vote.types import DENSE_LIMIT


@pytest.fixture(params=[DENSE_LIMIT, 0], ids=["dense", "pairs"])
def new_votes(request):
    """`make_votes` of either form."""
    return functools.partial(make_votes, dense_limit=request.param)


def cast(votes, indices, labels, scores=None):
    scores = [1.0] * len(indices) if scores is None else scores
    vote(votes, torch.tensor(indices), torch.tensor([labels]), torch.tensor(scores))


def finish(votes):
    """Labels and scores of one head."""
    result = finish_votes(votes, torch.arange(len(votes.coverage)))
    return VotedLabels(result.label[0], result.score)


def test_most_votes_win(new_votes):
    votes = new_votes(1, 3)
    for label in (2, 0, 2):
        cast(votes, [0], [label])
    assert finish(votes).label.tolist() == [2]
    assert votes.coverage.tolist() == [3]


def test_ties_go_to_the_lowest_class(new_votes):
    votes = new_votes(2, 4)
    for labels in ([3, 2], [1, 3], [3, 3], [1, 2]):
        cast(votes, [0, 1], labels)
    assert finish(votes).label.tolist() == [1, 2]


def test_score_is_the_winners_sum_over_all_views_that_saw_the_point(new_votes):
    votes = new_votes(1, 3)
    for label, score in ((1, 0.9), (0, 1.0), (1, 0.5)):
        cast(votes, [0], [label], [score])
    assert finish(votes).score.item() == pytest.approx((0.9 + 0.5) / 3)


def test_more_votes_than_a_short_integer_holds(new_votes):
    """The 32,768th vote made an int16 count negative, so that any other class won."""
    votes = new_votes(1, 2)
    cast(votes, [0], [0])
    cast(votes, [0], [1])
    counts = votes.heads[0].counts if isinstance(votes, PairVotes) else votes.counts
    counts *= 32_767
    cast(votes, [0], [1])
    assert counts.flatten().tolist() == [32_767, 32_768]
    assert finish(votes).label.tolist() == [1]


def test_heads_are_counted_apart_and_the_first_one_scores(new_votes):
    votes = new_votes(2, 5, num_heads=3)
    for labels in ([1, 2, 3], [1, 4, 0]):
        given = torch.tensor([labels, labels[::-1], [2, 2, 2]])[:, :2]
        vote(votes, torch.tensor([1, 0]), given, torch.tensor([0.25, 0.75]))
    result = finish_votes(votes, torch.arange(2))
    assert result.label.tolist() == [[2, 1], [2, 0], [2, 2]]
    assert result.score.tolist() == [0.375, 0.25]
    assert votes.coverage.tolist() == [2, 2]


def test_padding_is_skipped(new_votes):
    votes = new_votes(2, 3)
    cast(votes, [1, -1, -1], [2, 0, 1])
    assert votes.coverage.tolist() == [0, 1]
    assert finish(votes).label.tolist() == [0, 2]


def test_unseen_points_take_label_and_score_of_the_nearest_seen_one(new_votes):
    votes = new_votes(3, 3)
    cast(votes, [0, 2], [1, 2], [0.4, 0.8])
    points = torch.tensor([[0.0, 0, 0], [0.9, 0, 0], [1.0, 0, 0]])
    result = finish_votes(votes, nearest_fill(points, votes.coverage > 0))
    assert result.label.tolist() == [[1, 2, 2]]
    torch.testing.assert_close(result.score, torch.tensor([0.4, 0.8, 0.8]))


def test_no_points(new_votes):
    votes = new_votes(0, 3)
    none = torch.zeros(0, dtype=torch.int64)
    vote(votes, none, none[None], none.float())
    assert finish(votes).label.shape == (0,)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 30),
    st.integers(1, 6),
    st.integers(1, 12),
    st.sampled_from([DENSE_LIMIT, 0]),
)
def test_equals_counting_one_by_one(seed, n, classes, views, dense_limit):
    generator = torch.Generator().manual_seed(seed)
    votes = make_votes(n, classes, dense_limit=dense_limit)
    tally = [[0] * classes for _ in range(n)]
    sums = [[0.0] * classes for _ in range(n)]
    for _ in range(views):
        seen = torch.randperm(n, generator=generator)[: int(n * 0.7) + 1]
        labels = torch.randint(classes, seen.shape, generator=generator)
        scores = torch.rand(seen.shape, generator=generator)
        vote(votes, seen, labels[None], scores)
        for point, label, score in zip(
            seen.tolist(), labels.tolist(), scores.tolist(), strict=True
        ):
            tally[point][label] += 1
            sums[point][label] += score
    result = finish(votes)
    for point in range(n):
        best = tally[point].index(max(tally[point]))
        assert result.label[point] == best
        views_seen = max(sum(tally[point]), 1)
        assert result.score[point].item() == pytest.approx(sums[point][best] / views_seen, abs=1e-5)
        assert 0 <= result.score[point] <= 1 + 1e-6


@pytest.mark.parametrize("head", ["fused", "2d", "3d"])
def test_golden_scene(golden, kitchen_points, head):
    expected = golden("scene_KITCHEN_golden")
    points = kitchen_points
    votes = make_votes(len(points), 19)
    for view in range(len(expected["view_ids"])):
        visible = np.unpackbits(expected[f"visible_mask_{view}"])[: len(points)]
        indices = torch.from_numpy(np.flatnonzero(visible))
        labels = torch.from_numpy(expected[f"label_{head}_{view}"]).long()
        vote(votes, indices, labels[None], torch.ones(len(indices)))
    result = finish_votes(votes, nearest_fill(points, votes.coverage > 0))
    assert torch.equal(result.label[0], torch.from_numpy(expected[f"scene_label_{head}"]).long())
    top = votes.counts[0].topk(2, dim=1).values
    seen = votes.coverage > 0
    assert (top[:, 0] == top[:, 1])[seen].float().mean() > 0.1  # ties do occur in this scene


def assert_same_votes(subject, dense, generator):
    points, classes = dense.shape[1:]
    nearest = torch.randint(points, (points,), generator=generator)
    ours, theirs = finish_votes(subject, nearest), finish_votes(dense, nearest)
    assert torch.equal(ours.label, theirs.label)
    assert torch.equal(ours.score, theirs.score)
    assert torch.equal(subject.coverage, dense.coverage)
    assert theirs.label.max() < classes


@pytest.mark.parametrize("seen", [1, 40, 900, 997])
@pytest.mark.parametrize("classes", [1, 3, 2000])
def test_pairs_equal_dense_votes_bit_for_bit(classes, seen, monkeypatch):
    """In any order of the points, with padding, ties, unseen points and equal labels of heads."""
    monkeypatch.setattr(pairs_form, "CHUNK", 100)
    generator = torch.Generator().manual_seed(classes + seen)
    dense = make_votes(997, classes, num_heads=3)
    pairs = make_votes(997, classes, num_heads=3, dense_limit=16 * 997 * classes - 1)
    assert isinstance(dense, SceneVotes)
    assert isinstance(pairs, PairVotes)
    assert_same_votes(pairs, dense, generator)
    few = torch.randint(classes, (7,), generator=generator)
    for view in range(9):
        indices = torch.randperm(997, generator=generator)[:seen]
        indices[: view % 3] = -1
        drawn = few[torch.randint(7, (3, seen), generator=generator)]
        labels = drawn if view % 2 else torch.randint(classes, (3, seen), generator=generator)
        labels[2] = labels[0]
        scores = torch.rand(seen, generator=generator)
        for votes in (dense, pairs):
            vote(votes, indices, labels.int() if view == 4 else labels, scores)
    assert_same_votes(pairs, dense, generator)
    assert pairs.heads[1].score_sums.numel() == 0
    for head, counts in zip(pairs.heads, dense.counts, strict=True):
        assert torch.equal(head.keys, counts.flatten().nonzero().flatten())
        assert torch.equal(head.counts, counts.flatten()[head.keys])


MEMORY_OF_MANY_CLASSES = """
import resource, torch
from xmask3d_rt.pipeline.votes import HeadVotes
from xmask3d_rt.kernels import PointLabels
torch.set_num_threads(1)
points, classes = 1_000_000, 2_000
draw = lambda: torch.randint(classes, (points,))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
scores, every, before = torch.rand(points), torch.arange(points), peak()
votes = HeadVotes(points, classes, torch.device("cpu"))
for _ in range(4):
    votes.add(every, PointLabels(draw(), draw(), draw(), scores))
votes.finish(torch.rand(points, 3))
print(peak() - before)
"""


def test_a_million_points_and_2000_classes_take_less_than_2_gb():
    """Dense votes of the three heads would take 32 GB."""
    command = [sys.executable, "-c", MEMORY_OF_MANY_CLASSES]
    child = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(child.stdout) < 2_000_000_000


def test_bad_sizes_rejected():
    with pytest.raises(ValueError, match="num_classes >= 1"):
        make_votes(5, 0)
    with pytest.raises(ValueError, match="num_points >= 0"):
        make_votes(-1, 3)
    with pytest.raises(ValueError, match="num_heads >= 1, got 5, 3 and 0"):
        make_votes(5, 3, num_heads=0)


@pytest.mark.parametrize(
    ("indices", "labels", "scores", "error"),
    [
        (torch.zeros(2, 1).long(), torch.zeros(1, 2).long(), torch.zeros(2), ValueError),
        (torch.zeros(2).long(), torch.zeros(1, 3).long(), torch.zeros(2), ValueError),
        (torch.zeros(2).long(), torch.zeros(2, 2).long(), torch.zeros(2), ValueError),
        (torch.zeros(2).long(), torch.zeros(2).long(), torch.zeros(2), ValueError),
        (torch.zeros(2).long(), torch.zeros(1, 2).long(), torch.zeros(3), ValueError),
        (torch.zeros(2).long(), torch.zeros(1, 2).long(), torch.zeros(2).to("meta"), ValueError),
        (torch.zeros(2), torch.zeros(1, 2).long(), torch.zeros(2), TypeError),
        (torch.zeros(2).long(), torch.zeros(1, 2).bool(), torch.zeros(2), TypeError),
        (torch.zeros(2).long(), torch.zeros(1, 2).long(), torch.zeros(2).long(), TypeError),
    ],
)
def test_bad_votes_rejected(new_votes, indices, labels, scores, error):
    with pytest.raises(error, match="vote: "):
        vote(new_votes(4, 3), indices, labels, scores)


def test_bad_nearest_rejected(new_votes):
    with pytest.raises(ValueError, match="nearest must have shape"):
        finish_votes(new_votes(4, 3), torch.arange(3))
    with pytest.raises(TypeError, match="must hold integers"):
        finish_votes(new_votes(4, 3), torch.zeros(4))
