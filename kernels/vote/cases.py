"""Compile cases of vote."""

from xmask3d_rt.kernels.aot import CompileCase
from xmask3d_rt.kernels.vote import kernel
from xmask3d_rt.kernels.vote.launch import BLOCK, finish_blocks


def compile_cases() -> list[CompileCase]:
    """Voting, and finishing with few and with many classes."""
    shared = {
        "n": "i32",
        "classes": "i32",
        "counts_ptr": "*i32",
        "score_sums_ptr": "*fp32",
        "coverage_ptr": "*i32",
    }
    view = {"indices_ptr": "*i64", "labels_ptr": "*i64", "scores_ptr": "*fp32", "points": "i32"}
    cases = [CompileCase("vote", "base", kernel.vote_kernel, view | shared, {"BLOCK": BLOCK})]
    finishing = {"nearest_ptr": "*i64", "label_ptr": "*i64", "score_ptr": "*fp32", **shared}
    for classes in (2, 19, 200):
        block_n, block_c = finish_blocks(classes)
        constants = {"BLOCK_N": block_n, "BLOCK_C": block_c}
        name = f"c{block_c}"
        cases.append(CompileCase("vote", name, kernel.finish_votes_kernel, finishing, constants))
    return cases
