"""What the exporter leaves in a graph and no backend needs: constants to fold, no-ops, twins.

The exporter's own `optimize=True` comes to the same graph through more rules, one of which, for
pairs of slices, looks at every node for every node: three quarters of the time of a large graph.
"""

import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript import optimizer
from onnxscript.rewriter import RewritePass
from onnxscript.rewriter.rules import common

ROUNDS = 2  # what a rule leaves may be a constant, or another rule's
RULES = (
    *(common.mul_by_1_rule, common.div_by_1_rule, common.add_0_rule, common.sub_0_rule),
    *(common.cast_cast_rule, common.no_op_cast_rule, common.no_op_expand_rule),
    *(common.collapse_slice_rule, common.collapse_slice2_rule),
    *(common.reshape_reshape_rule, common.squeeze_reshape_1d_rule),
    common.materialize_reshape_shape_rule,
    *(common.transpose_transpose_rule, common.no_op_transpose_rule),
    common.unsqueeze_unsqueeze_rule,
    *(common.no_op_static_scatter_nd_rule, common.no_op_dynamic_scatter_nd_rule),
    *(common.normalize_pad_format_conv_rule, common.fuse_pad_into_conv_rule),
    common.remove_optional_bias_from_conv_rule,
    *(
        common.remove_optional_bias_from_conv_transpose_rule,
        common.remove_optional_bias_from_gemm_rule,
    ),
)


def simplify(model: ir.Model) -> None:
    """Simplify a model as the exporter wrote it, in place; it computes the same."""
    optimizer.inline(model)
    rewrite = RewritePass(RULES)
    for _ in range(ROUNDS):
        folded = optimizer.fold_constants(model, onnx_shape_inference=True)
        rewritten = rewrite(model)
        passes.RemoveUnusedNodesPass()(model)
        if not (folded.modified or rewritten.modified):
            break
    clean_up = ir.passes.Sequential(
        passes.RemoveUnusedFunctionsPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.LiftSubgraphInitializersToMainGraphPass(),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.OutputFixPass(),
        passes.NameFixPass(),
    )
    clean_up(model)
