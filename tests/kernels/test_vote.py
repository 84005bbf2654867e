"""vote: counting, ties, scores, unseen points, the golden scene, refusals."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xmask3d_rt.kernels import finish_votes, make_votes, nearest_fill, vote


def cast(votes, indices, labels, scores=None):
    scores = [1.0] * len(indices) if scores is None else scores
    vote(votes, torch.tensor(indices), torch.tensor(labels), torch.tensor(scores))


def finish(votes):
    return finish_votes(votes, torch.arange(len(votes.coverage)))


def test_most_votes_win():
    votes = make_votes(1, 3)
    for label in (2, 0, 2):
        cast(votes, [0], [label])
    assert finish(votes).label.tolist() == [2]
    assert votes.coverage.tolist() == [3]


def test_ties_go_to_the_lowest_class():
    votes = make_votes(2, 4)
    for labels in ([3, 2], [1, 3], [3, 3], [1, 2]):
        cast(votes, [0, 1], labels)
    assert finish(votes).label.tolist() == [1, 2]


def test_score_is_the_winners_sum_over_all_views_that_saw_the_point():
    votes = make_votes(1, 3)
    for label, score in ((1, 0.9), (0, 1.0), (1, 0.5)):
        cast(votes, [0], [label], [score])
    assert finish(votes).score.item() == pytest.approx((0.9 + 0.5) / 3)


def test_labels_are_the_same_without_scores():
    torch.manual_seed(0)
    votes, plain = make_votes(40, 5), make_votes(40, 5, keep_scores=False)
    for _ in range(4):
        seen = torch.randperm(40)[:25]
        labels, scores = torch.randint(5, seen.shape), torch.rand(seen.shape)
        for subject in (votes, plain):
            vote(subject, seen, labels, scores)
    nearest = torch.randint(40, (40,))
    assert torch.equal(finish_votes(plain, nearest).label, finish_votes(votes, nearest).label)
    assert finish_votes(plain, nearest).score.tolist() == [0] * 40
    assert plain.score_sums.numel() == 0


def test_padding_is_skipped():
    votes = make_votes(2, 3)
    cast(votes, [1, -1, -1], [2, 0, 1])
    assert votes.coverage.tolist() == [0, 1]
    assert votes.counts.sum() == 1


def test_unseen_points_take_label_and_score_of_the_nearest_seen_one():
    votes = make_votes(3, 3)
    cast(votes, [0, 2], [1, 2], [0.4, 0.8])
    points = torch.tensor([[0.0, 0, 0], [0.9, 0, 0], [1.0, 0, 0]])
    result = finish_votes(votes, nearest_fill(points, votes.coverage > 0))
    assert result.label.tolist() == [1, 2, 2]
    torch.testing.assert_close(result.score, torch.tensor([0.4, 0.8, 0.8]))


def test_no_points():
    votes = make_votes(0, 3)
    none = torch.zeros(0, dtype=torch.int64)
    vote(votes, none, none, none.float())
    assert finish(votes).label.shape == (0,)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 6), st.integers(1, 12))
def test_equals_counting_one_by_one(seed, n, classes, views):
    generator = torch.Generator().manual_seed(seed)
    votes = make_votes(n, classes)
    tally = [[0] * classes for _ in range(n)]
    sums = [[0.0] * classes for _ in range(n)]
    for _ in range(views):
        seen = torch.randperm(n, generator=generator)[: int(n * 0.7) + 1]
        labels = torch.randint(classes, seen.shape, generator=generator)
        scores = torch.rand(seen.shape, generator=generator)
        vote(votes, seen, labels, scores)
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
        vote(votes, indices, labels, torch.ones(len(indices)))
    result = finish_votes(votes, nearest_fill(points, votes.coverage > 0))
    assert torch.equal(result.label, torch.from_numpy(expected[f"scene_label_{head}"]).long())
    top = votes.counts.topk(2, dim=1).values
    seen = votes.coverage > 0
    assert (top[:, 0] == top[:, 1])[seen].float().mean() > 0.1  # ties do occur in this scene


def test_bad_sizes_rejected():
    with pytest.raises(ValueError, match="num_classes >= 1"):
        make_votes(5, 0)
    with pytest.raises(ValueError, match="num_points >= 0"):
        make_votes(-1, 3)


@pytest.mark.parametrize(
    ("indices", "labels", "scores", "error"),
    [
        (torch.zeros(2, 1).long(), torch.zeros(2).long(), torch.zeros(2), ValueError),
        (torch.zeros(2).long(), torch.zeros(3).long(), torch.zeros(2), ValueError),
        (torch.zeros(2).long(), torch.zeros(2).long(), torch.zeros(3), ValueError),
        (torch.zeros(2).long(), torch.zeros(2).long(), torch.zeros(2, device="meta"), ValueError),
        (torch.zeros(2), torch.zeros(2).long(), torch.zeros(2), TypeError),
        (torch.zeros(2).long(), torch.zeros(2).bool(), torch.zeros(2), TypeError),
        (torch.zeros(2).long(), torch.zeros(2).long(), torch.zeros(2).long(), TypeError),
    ],
)
def test_bad_votes_rejected(indices, labels, scores, error):
    with pytest.raises(error, match="vote: "):
        vote(make_votes(4, 3), indices, labels, scores)


def test_bad_nearest_rejected():
    with pytest.raises(ValueError, match="nearest must have shape"):
        finish_votes(make_votes(4, 3), torch.arange(3))
    with pytest.raises(TypeError, match="must hold integers"):
        finish_votes(make_votes(4, 3), torch.zeros(4))
