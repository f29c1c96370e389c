"""ONNX graphs without what is constant, there twice or without effect."""

from __future__ import annotations

from typing import Any

STEPS = 2  # what one leaves can be more for the next


def optimise_onnx(model: Any) -> None:
    """Does to a model (of onnx_ir), in place, what `torch.onnx.export` would do itself if told to optimise.

    But only by those rules that find something here: another looks among all pairs of nodes for two slices that could
    be one split, which takes long and finds nothing (benchmarks/results/exports.md).
    """
    from onnx_ir.passes import common as passes
    from onnxscript import optimizer
    from onnxscript.rewriter import rewrite
    from onnxscript.rewriter.rules import common as rules

    chosen = (
        rules.materialize_reshape_shape_rule,
        rules.reshape_reshape_rule,
        rules.mul_by_1_rule,
        rules.no_op_transpose_rule,
        rules.transpose_transpose_rule,
        rules.no_op_cast_rule,
        rules.no_op_expand_rule,
        rules.collapse_slice_rule,
        rules.fuse_pad_into_conv_rule,
        rules.remove_optional_bias_from_conv_rule,
    )
    optimizer.inline(model)
    for _ in range(STEPS):
        optimizer.fold_constants(model, onnx_shape_inference=True)
        rewrite(model, chosen)
    for step in (
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.OutputFixPass(),
        passes.NameFixPass(),
    ):
        step(model)
