"""vote: one vote per view, head and point, and the label that wins."""

from typing import Any

from torch import Tensor

from xmask3d_rt.kernels.checks import check_device, check_float, check_integer, check_shape
from xmask3d_rt.kernels.dispatch import Operator
from xmask3d_rt.kernels.vote.pairs import finish_vote_pairs, vote_pairs
from xmask3d_rt.kernels.vote.reference import finish_votes_reference, make_outputs, vote_reference
from xmask3d_rt.kernels.vote.types import PairVotes, SceneVotes, VotedLabels


def vote(
    votes: SceneVotes | PairVotes,
    indices: Tensor,  # [n]
    labels: Tensor,  # [H, n]
    scores: Tensor,  # [n]
) -> None:
    """Add the labels of one view to `votes`, in place.

    Args:
        votes: From `make_votes`.
        indices: The scene point of each label, `[n]` integers, no point twice; -1 is skipped, so
            that the padded indices of `project_view` can be given as they are.
        labels: Class that each head gives each point, `[H, n]` integers in [0, C).
        scores: Score of each label of head 0, `[n]` float in [0, 1].

    Raises:
        ValueError: shapes that disagree or tensors on two devices.
        TypeError: a dtype other than the ones above.
    """
    check_shape("vote", "indices", indices, (None,), "[n]")
    check_shape("vote", "labels", labels, (votes.shape[0], indices.shape[0]), "[H, n]")
    check_shape("vote", "scores", scores, (indices.shape[0],), "[n]")
    check_integer("vote", indices=indices, labels=labels)
    check_float("vote", scores=scores)
    check_device("vote", votes=votes.coverage, indices=indices, labels=labels, scores=scores)
    if isinstance(votes, PairVotes):
        vote_pairs(votes, indices, labels, scores)
    else:
        _vote(votes, indices, labels, scores)


def finish_votes(votes: SceneVotes | PairVotes, nearest: Tensor) -> VotedLabels:
    """The label that most views gave each point, by head; ties go to the lowest class.

    The score of a point is the sum of the scores of the votes for its label over the number of
    views that saw it. Points that no view saw take labels and score of `nearest`.

    Args:
        votes: After the last `vote`.
        nearest: `nearest_fill(points, votes.coverage > 0)`, `[N]` integers.

    Returns:
        `VotedLabels`.

    Raises:
        ValueError: `nearest` of another length or on another device.
        TypeError: `nearest` does not hold integers.
    """
    check_shape("finish_votes", "nearest", nearest, (votes.shape[1],), "[N]")
    check_integer("finish_votes", nearest=nearest)
    check_device("finish_votes", votes=votes.coverage, nearest=nearest)
    if isinstance(votes, PairVotes):
        return finish_vote_pairs(votes, nearest)
    return _finish_votes(votes, nearest)


def _return_nothing(**_: Any) -> None:
    return None


_vote = Operator("vote", vote_reference, _return_nothing, mutates=("votes",))
_finish_votes = Operator("finish_votes", finish_votes_reference, make_outputs)
