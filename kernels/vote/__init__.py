"""One vote per view, head and point, and the labels that win."""

from xmask3d_rt.kernels.vote.op import finish_votes, vote
from xmask3d_rt.kernels.vote.types import PairVotes, SceneVotes, VotedLabels, make_votes

__all__ = ["PairVotes", "SceneVotes", "VotedLabels", "finish_votes", "make_votes", "vote"]
