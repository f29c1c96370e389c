"""ONNX graphs without what is constant, there twice or without effect."""

from __future__ import annotations

from typing import Any

STEPS = 2  # what one leaves can be more for the next


def optimise_onnx(model: Any) -> None:
    """Does to a model (of onnx_ir), in place, what `torch.onnx.export` would do itself if told to optimise.

    But only by those rules that find something here: another, which looks among all pairs of nodes for two slices that
    could be one split, finds nothing in a third of an export's time.
    """
    from onnx_ir.passes import common
    from onnxscript import optimizer
    from onnxscript.rewriter import RewritePass
    from onnxscript.rewriter.rules.common import (
        collapse_slice_rule,
        fuse_pad_into_conv_rule,
        materialize_reshape_shape_rule,
        mul_by_1_rule,
        no_op_cast_rule,
        no_op_expand_rule,
        no_op_transpose_rule,
        remove_optional_bias_from_conv_rule,
        reshape_reshape_rule,
        transpose_transpose_rule,
    )

    rules = RewritePass(
        [
            materialize_reshape_shape_rule,
            reshape_reshape_rule,
            mul_by_1_rule,
            no_op_transpose_rule,
            transpose_transpose_rule,
            no_op_cast_rule,
            no_op_expand_rule,
            collapse_slice_rule,
            fuse_pad_into_conv_rule,
            remove_optional_bias_from_conv_rule,
        ]
    )
    optimizer.inline(model)
    for _ in range(STEPS):
        optimizer.fold_constants(model, onnx_shape_inference=True)
        rules(model)
        optimizer.remove_unused_nodes(model)
    for step in (
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    ):
        step(model)
