"""Backbones by name: embedded, from a hub, from a local file, or with seeded random weights."""

from __future__ import annotations

import difflib
import logging
import pickle
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import open_clip
import torch
from open_clip.factory import load_state_dict
from open_clip.model import build_model_from_openai_state_dict, get_model_preprocess_cfg
from torch import nn
from torch.overrides import TorchFunctionMode

from sowa.core.files import is_file
from sowa.errors import InputError
from sowa.model.backbone import Backbone
from sowa.model.mini import build_mini

SCHEMES = ("hf-hub:", "local-dir:")
OPENAI_KEYS = ("visual.proj", "visual.conv1.weight", "text_projection", "token_embedding.weight")
OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")


def build_backbone(name: str, levels: Sequence[int] | None = None, seed: int = 0) -> Backbone:
    """A frozen backbone, on the CPU, in fp32.

    ``name`` is one of
    - ``mini``: embedded, offline; ``mini:random``: the same network with seeded random weights
    - ``ViT-L-14-336``: a model of open_clip with its first published weights (``openai`` where they exist)
    - ``ViT-L-14-336:TAG``: with the weights of that tag; ``ViT-L-14-336:random``: seeded random weights;
      ``ViT-L-14-336:FILE``: with a local file (OpenAI's own need ``ViT-L-14-336-quickgelu:FILE``: a file doesn't tell)
    - a path to a file with a state dict under OpenAI's names (always QuickGELU, as theirs)
    - ``hf-hub:OWNER/REPOSITORY`` or ``local-dir:FOLDER`` as open_clip reads them

    Args:
        name: As above.
        levels: Numbers of the blocks behind which tokens are taken, from 0; by default four, evenly spread.
        seed: Of random weights.

    Raises:
        InputError: an unknown name, a file that isn't such a model, or weights that can't be had.
    """
    if is_file(name):
        return _from_openai_file(name, levels)
    architecture, _, weights = (name, "", "") if name.startswith(SCHEMES) else name.partition(":")
    if architecture == "mini":
        if weights not in ("", "random"):
            raise InputError(f"backbone {name!r}: mini has no weights {weights!r}; use 'mini' or 'mini:random'")
        return build_mini(levels, random=bool(weights))
    clip = _open_clip(name, architecture, weights, seed)
    preprocess = get_model_preprocess_cfg(clip)
    return Backbone(clip, name, levels, mean=preprocess["mean"], std=preprocess["std"])


def _open_clip(name: str, architecture: str, weights: str, seed: int) -> nn.Module:
    if not architecture.startswith(SCHEMES):
        _check_known(architecture)
    arguments: dict[str, Any] = {"pretrained": None, "require_pretrained": weights != "random"}
    if weights != "random" and not architecture.startswith(SCHEMES):
        arguments |= _pretrained_arguments(name, architecture, weights)
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)  # open_clip warns of random weights, which were asked for
    try:
        with torch.random.fork_rng(devices=[]), nullcontext() if weights == "random" else _Undrawn():
            torch.manual_seed(seed)
            clip: nn.Module = open_clip.create_model(architecture, precision="fp32", device="cpu", **arguments)
            return clip
    except Exception as error:  # open_clip lets whatever its hub client or unpickler raises through
        openai = "-quickgelu" if arguments.get("force_quick_gelu") and "quickgelu" not in architecture else ""
        raise InputError(
            f"backbone {name!r} can't be loaded ({_first_line(error)}); "
            f"give local weights as {architecture}{openai}:FILE, or use 'mini'"
        ) from error
    finally:
        logging.disable(level)


class _Undrawn(TorchFunctionMode):
    """Within it layers keep no random weights, since all of them are about to be loaded, which fails if one is missing.

    Of ViT-L-14-336 drawing them takes a third of the time to load it.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.Tensor.normal_, torch.Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))


def _check_known(architecture: str) -> None:
    known = ["mini", *open_clip.list_models()]
    if architecture not in known:
        close = difflib.get_close_matches(architecture, known, n=3) or known[:1]
        raise InputError(
            f"backbone {architecture!r} is unknown; did you mean {' or '.join(close)}? "
            "Allowed are 'mini', open_clip's ViT models and files"
        )


def _pretrained_arguments(name: str, architecture: str, weights: str) -> dict[str, Any]:
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not weights:
        if not tags:
            raise InputError(f"backbone {name!r} has no published weights; use {architecture}:FILE or :random")
        weights = "openai" if "openai" in tags else tags[0]
    if weights not in tags and not is_file(weights):
        raise InputError(f"weights {weights!r} of backbone {architecture!r} are no file and none of {tags}, 'random'")
    published = open_clip.get_pretrained_cfg(architecture, weights) or {}
    # Some tags (OpenAI's among them) were trained with QuickGELU whatever the architecture's name says.
    return {"pretrained": weights, "force_quick_gelu": bool(published.get("quick_gelu"))}


def read_state_dict(name: str) -> dict[str, Any]:
    """The state dict of a file that isn't ours: safetensors, or torch's format restricted to tensors.

    Raises:
        InputError: a file that can't be read so.
    """
    try:
        state: dict[str, Any] = load_state_dict(name, weights_only=True)
        return state
    except Exception as error:  # safetensors and torch raise many kinds for a broken file
        raise InputError(
            f"{name} can't be read as weights ({_first_line(error)}); give safetensors or a plain state dict"
        ) from error


def _from_openai_file(name: str, levels: Sequence[int] | None) -> Backbone:
    state = read_state_dict(name)
    missing = [key for key in OPENAI_KEYS if key not in state]
    if missing:
        raise InputError(f"{name} has no weights under OpenAI's CLIP names ({missing[0]} is missing); use NAME:{name}")
    try:
        state = {key: value.float() for key, value in state.items() if key not in OPENAI_EXTRAS}
        with torch.random.fork_rng(devices=[]), _Undrawn():
            clip = build_model_from_openai_state_dict(dict(state), cast_dtype=torch.float32).float()
        clip.load_state_dict(state)  # once more: open_clip rounds to half precision on the way
    except Exception as error:  # what open_clip makes of a shape, a key or a value that doesn't belong there
        raise InputError(
            f"{name} is nearly a CLIP under OpenAI's names, but not quite ({_first_line(error)}); use NAME:{name}"
        ) from error
    return Backbone(clip, name, levels)


def _first_line(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):  # its text advises to unpickle all the same
        return "it holds more than tensors"
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
