"""vote: one vote per view and point, and the label that wins."""

from typing import NamedTuple

import torch

from xmask3d_rt.kernels.checks import check_device, check_float, check_integer, check_shape
from xmask3d_rt.kernels.dispatch import block_size, define_op
from xmask3d_rt.kernels.vote.reference import finish_votes_reference, vote_reference

BLOCK = 512


class SceneVotes(NamedTuple):
    """Votes of the views seen so far; changed in place by `vote`."""

    counts: torch.Tensor  # [N, C] int16, views that gave the point this class
    score_sums: torch.Tensor  # [N, C] float32, sum of the scores of those votes; or [0, C]
    coverage: torch.Tensor  # [N] int32, views that saw the point


class VotedLabels(NamedTuple):
    """Labels of a scene."""

    label: torch.Tensor  # [N] int64
    score: torch.Tensor  # [N] float32 in [0, 1]; 0 where scores were not kept


def make_votes(
    num_points: int,
    num_classes: int,
    device: torch.device | str = "cpu",
    keep_scores: bool = True,
) -> SceneVotes:
    """No votes yet for `num_points` points and `num_classes` classes.

    Args:
        num_points: N, >= 0.
        num_classes: C, >= 1.
        device: where they are counted.
        keep_scores: whether scores are summed up as well: 6 bytes per point and class, else 2.

    Raises:
        ValueError: a negative number of points or no classes.
    """
    if num_points < 0 or num_classes < 1:
        raise ValueError(
            f"make_votes: need num_points >= 0 and num_classes >= 1, "
            f"got {num_points} and {num_classes}"
        )
    return SceneVotes(
        torch.zeros(num_points, num_classes, dtype=torch.int16, device=device),
        torch.zeros(num_points * keep_scores, num_classes, dtype=torch.float32, device=device),
        torch.zeros(num_points, dtype=torch.int32, device=device),
    )


def vote(
    votes: SceneVotes,
    indices: torch.Tensor,  # [n]
    labels: torch.Tensor,  # [n]
    scores: torch.Tensor,  # [n]
) -> None:
    """Add the labels of one view to `votes`, in place.

    Args:
        votes: From `make_votes`.
        indices: The scene point of each label, `[n]` int64, no point twice; -1 is skipped, so
            that the padded indices of `project_view` can be given as they are.
        labels: Class of each point, `[n]` int64 in [0, C).
        scores: Score of each label, `[n]` float in [0, 1].

    Raises:
        ValueError: shapes that disagree or tensors on two devices.
        TypeError: a dtype other than the ones above.
    """
    check_shape("vote", "indices", indices, (None,), "[n]")
    check_shape("vote", "labels", labels, (indices.shape[0],), "[n]")
    check_shape("vote", "scores", scores, (indices.shape[0],), "[n]")
    check_integer("vote", indices=indices, labels=labels)
    check_float("vote", scores=scores)
    check_device("vote", counts=votes.counts, indices=indices, labels=labels, scores=scores)
    _vote(*votes, indices, labels, scores)


def finish_votes(votes: SceneVotes, nearest: torch.Tensor) -> VotedLabels:
    """The label that most views gave each point; ties go to the lowest class.

    The score of a point is the sum of the scores of the votes for its label over the number of
    views that saw it. Points that no view saw take label and score of `nearest`.

    Args:
        votes: After the last `vote`.
        nearest: `nearest_fill(points, votes.coverage > 0)`, `[N]` int64: the same for all heads.

    Returns:
        `VotedLabels`.

    Raises:
        ValueError: `nearest` of another length or on another device.
        TypeError: `nearest` does not hold integers.
    """
    check_shape("finish_votes", "nearest", nearest, (votes.counts.shape[0],), "[N]")
    check_integer("finish_votes", nearest=nearest)
    check_device("finish_votes", counts=votes.counts, nearest=nearest)
    return VotedLabels(*_finish_votes(*votes, nearest))


def _vote_cpu(
    counts: torch.Tensor,
    score_sums: torch.Tensor,
    coverage: torch.Tensor,
    indices: torch.Tensor,
    labels: torch.Tensor,
    scores: torch.Tensor,
) -> None:
    valid = indices >= 0
    if not bool(valid.all()):
        indices, labels, scores = indices[valid], labels[valid], scores[valid]
    vote_reference(counts, score_sums, coverage, indices.long(), labels.long(), scores.float())


def _vote_triton(
    counts: torch.Tensor,
    score_sums: torch.Tensor,
    coverage: torch.Tensor,
    indices: torch.Tensor,
    labels: torch.Tensor,
    scores: torch.Tensor,
) -> None:
    import triton

    from xmask3d_rt.kernels.vote import kernel

    n = indices.shape[0]
    if n:
        block = block_size(BLOCK)
        kernel.vote_kernel[(triton.cdiv(n, block),)](
            indices_ptr=indices.contiguous(),
            labels_ptr=labels.contiguous(),
            scores_ptr=scores.contiguous(),
            n=n,
            classes=counts.shape[1],
            counts_ptr=counts,
            score_sums_ptr=score_sums,
            coverage_ptr=coverage,
            SCORED=score_sums.shape[0] > 0,
            BLOCK=block,
        )


def _vote_fake(counts, score_sums, coverage, indices, labels, scores) -> None:
    return None


def finish_blocks(classes: int) -> tuple[int, int]:
    """Points and classes of one tile of the arg-max: 1,024 counts in all."""
    block_c = min(64, 1 << (classes - 1).bit_length())
    return 1024 // block_c, block_c


def _finish_votes_triton(
    counts: torch.Tensor,
    score_sums: torch.Tensor,
    coverage: torch.Tensor,
    nearest: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    import triton

    from xmask3d_rt.kernels.vote import kernel

    n, classes = counts.shape
    label, score = _finish_votes_fake(counts, score_sums, coverage, nearest)
    if n:
        block_n, block_c = finish_blocks(classes)
        block_n = block_size(block_n)
        kernel.finish_votes_kernel[(triton.cdiv(n, block_n),)](
            counts_ptr=counts,
            score_sums_ptr=score_sums,
            coverage_ptr=coverage,
            nearest_ptr=nearest.contiguous(),
            n=n,
            classes=classes,
            label_ptr=label,
            score_ptr=score,
            SCORED=score_sums.shape[0] > 0,
            BLOCK_N=block_n,
            BLOCK_C=block_c,
        )
    return label, score


def _finish_votes_fake(counts, score_sums, coverage, nearest) -> tuple[torch.Tensor, torch.Tensor]:
    n = nearest.shape[0]
    return (
        nearest.new_empty((n,), dtype=torch.int64),
        score_sums.new_empty((n,), dtype=torch.float32),
    )


_vote = define_op(
    "vote(Tensor(a!) counts, Tensor(b!) score_sums, Tensor(c!) coverage, Tensor indices, "
    "Tensor labels, Tensor scores) -> ()",
    reference=_vote_cpu,
    triton=_vote_triton,
    fake=_vote_fake,
)
_finish_votes = define_op(
    "finish_votes(Tensor counts, Tensor score_sums, Tensor coverage, Tensor nearest) -> "
    "(Tensor, Tensor)",
    reference=finish_votes_reference,
    triton=_finish_votes_triton,
    fake=_finish_votes_fake,
)
