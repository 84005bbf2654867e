"""vote and finish_votes: one view of a scene, and the winner of every point."""

from functools import partial

import torch

from benchmarks.registry import Forms, KernelCase
from xmask3d_rt.kernels import finish_votes, make_votes, vote

SEEN = 40_000
DENSE = 1 << 40  # bytes: dense votes at every size


def benchmark_cases() -> list[KernelCase]:
    """A kitchen with 19 classes, a building with 200."""
    cases = []
    for n, classes in ((150_995, 19), (150_995, 200), (4_000_000, 20)):
        large = n * classes > 10_000_000
        shape = f"N={n} C={classes}"
        cases += [
            KernelCase(
                "vote",
                f"{shape} n={SEEN}",
                "fp32",
                partial(_build_vote, n, classes),
                moved_bytes=SEEN * (8 + 8 + 4 + 2 * (4 + 4 + 4)),
                large=large,
            ),
            KernelCase(
                "finish_votes",
                shape,
                "fp32",
                partial(_build_finish, n, classes),
                moved_bytes=n * (4 * classes + 8 + 4 + 4 + 8 + 4),
                large=large,
            ),
        ]
    return cases


def _cast(n: int, classes: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    indices = torch.randperm(n, device=device)[:SEEN].sort().values
    return indices, torch.randint(classes, (SEEN,), device=device), torch.rand(SEEN, device=device)


def _build_vote(n: int, classes: int, device: torch.device) -> Forms:
    indices, labels, scores = _cast(n, classes, device)
    votes = make_votes(n, classes, device, dense_limit=DENSE)
    scene = torch.zeros(n, classes, device=device)

    def released() -> None:
        seen = torch.zeros(n, dtype=torch.bool, device=device)
        seen[indices] = True
        scene[seen, labels] += 1

    return {"ours": lambda: vote(votes, indices, labels[None], scores), "released form": released}


def _build_finish(n: int, classes: int, device: torch.device) -> Forms:
    votes = make_votes(n, classes, device, dense_limit=DENSE)
    for _ in range(3):
        indices, labels, scores = _cast(n, classes, device)
        vote(votes, indices, labels[None], scores)
    scene = votes.counts[0].float()
    nearest = torch.arange(n, device=device)
    return {
        "ours": lambda: finish_votes(votes, nearest),
        "torch.max of floats": lambda: scene.max(1),
    }
