"""One vote per view and point, and the label that wins."""

from xmask3d_rt.kernels.vote.op import (
    SceneVotes,
    VotedLabels,
    finish_votes,
    make_votes,
    vote,
)

__all__ = ["SceneVotes", "VotedLabels", "finish_votes", "make_votes", "vote"]
