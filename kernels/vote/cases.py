"""Compile cases of vote."""

from xmask3d_rt.kernels.aot import CompileCase
from xmask3d_rt.kernels.vote import kernel
from xmask3d_rt.kernels.vote.op import BLOCK, finish_blocks


def compile_cases() -> list[CompileCase]:
    """Voting, and finishing with few and with many classes."""
    shared = {
        "n": "i32",
        "classes": "i32",
        "counts_ptr": "*i16",
        "score_sums_ptr": "*fp32",
        "coverage_ptr": "*i32",
    }
    voting = {"indices_ptr": "*i64", "labels_ptr": "*i64", "scores_ptr": "*fp32", **shared}
    cases = [
        CompileCase("vote", name, kernel.vote_kernel, voting, {"BLOCK": BLOCK, "SCORED": scored})
        for name, scored in (("base", True), ("unscored", False))
    ]
    finishing = {"nearest_ptr": "*i64", "label_ptr": "*i64", "score_ptr": "*fp32", **shared}
    for classes in (2, 19, 200):
        block_n, block_c = finish_blocks(classes)
        for suffix, scored in (("", True), (" unscored", False)):
            constants = {"BLOCK_N": block_n, "BLOCK_C": block_c, "SCORED": scored}
            name = f"c{block_c}{suffix}"
            cases.append(
                CompileCase("vote", name, kernel.finish_votes_kernel, finishing, constants)
            )
    return cases
