"""The authors' checkpoints: their names for what is trained, and what their tensors tell of the configuration.

Files are safetensors or plain state dicts; Lightning's wrapping is taken off. Nothing is unpickled but tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from sowa.core.config import AdapterConfig, ModelConfig, PromptConfig
from sowa.errors import InputError
from sowa.model.pretrained import read_state_dict

# The authors' name of a tensor -> ours. Buffers that follow from the configuration are skipped.
AUTHORS_NAMES = (
    (r"visual_encoder\.adapters\.(\d+)\.blocks\.(\d+)\.norm1\.", r"adapters.\1.blocks.\2.norm_attention."),
    (r"visual_encoder\.adapters\.(\d+)\.blocks\.(\d+)\.norm2\.", r"adapters.\1.blocks.\2.norm_linear."),
    (r"visual_encoder\.adapters\.(\d+)\.blocks\.(\d+)\.mlp\.layers\.0\.", r"adapters.\1.blocks.\2.linear."),
    (
        r"visual_encoder\.adapters\.(\d+)\.blocks\.(\d+)\.attn\.cpb_mlp\.",
        r"adapters.\1.blocks.\2.attention.position_mlp.",
    ),
    (
        r"visual_encoder\.adapters\.(\d+)\.blocks\.(\d+)\.attn\.logit_scale$",
        r"adapters.\1.blocks.\2.attention.logit_scale",
    ),
    (r"prompt_learner\.ctx_pos$", "prompts.context_normal"),
    (r"prompt_learner\.ctx_neg$", "prompts.context_abnormal"),
    (r"cross_fusion\.linear\.", "prompts.linear."),
)
AUTHORS_DERIVED = re.compile(
    r"clip_model\.|text_encoder\.|.*\.(relative_coords_table|relative_position_index|attn_mask)$"
    r"|.*\.attn\.(qkv|proj\.weight|proj\.bias)$|prompt_learner\.(token|clip_model)|visual_encoder\.(clip_model|visual)"
)


FIRST_BLOCK = "visual_encoder.adapters.0.blocks.0."


def read_authors(path: Path, config: ModelConfig | None = None) -> tuple[dict[str, Tensor], ModelConfig]:
    """Trained weights of an authors' checkpoint under this package's names, and the configuration they were made with.

    Args:
        path: The checkpoint.
        config: The configuration, where the shapes alone don't say it.

    Raises:
        InputError: a file that can't be read, that holds other weights, or whose prompts are for several classes or
            templates: their words aren't in the file, so ``config`` is needed then.
    """
    state = {key.removeprefix("net."): value for key, value in read_state_dict(str(path)).items()}
    try:
        return from_authors(state), config or infer_config(state)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def from_authors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state dict under this package's names; ``net.`` in front (Lightning) is dropped.

    Raises:
        InputError: a key that is neither trained nor derived.
    """
    ours = {}
    for key, value in state.items():
        name = key.removeprefix("net.")
        if AUTHORS_DERIVED.match(name):
            continue
        for pattern, replacement in AUTHORS_NAMES:
            renamed, count = re.subn(f"^{pattern}", replacement, name)
            if count:
                ours[renamed] = value
                break
        else:
            raise InputError(f"weight {key!r} is unknown; expected are this package's or the authors' names")
    return ours


def infer_config(state: Mapping[str, Tensor]) -> ModelConfig:
    """Window, heads, depth and prompts from the shapes of an authors' state dict, the rest as published.

    Raises:
        InputError: as `read_authors` says.
    """
    try:
        heads = state[FIRST_BLOCK + "attn.logit_scale"].shape[0]
        window = (state[FIRST_BLOCK + "attn.relative_coords_table"].shape[1] + 1) // 2
        position_width = state[FIRST_BLOCK + "attn.cpb_mlp.0.weight"].shape[0]
        classes, templates, length, _ = state["prompt_learner.ctx_pos"].shape
    except (KeyError, ValueError) as error:
        raise InputError(f"no weights of SOWA under the authors' names ({error} is missing)") from None
    if (classes, templates) != (1, 1):
        raise InputError(
            f"the prompts are for {classes} classes and {templates} templates, whose words aren't in the file; give "
            "config=ModelConfig(prompt=PromptConfig(class_names=..., ...)) in Python"
        )
    depth = len({key.split(".")[4] for key in state if key.startswith("visual_encoder.adapters.0.blocks.")})
    adapter = AdapterConfig(window_size=window, depth=depth, heads=heads, position_width=position_width)
    prompt = PromptConfig(length=length, text_linear="cross_fusion.linear.weight" in state)
    return ModelConfig(adapter=adapter, prompt=prompt)
