"""Rebuilds a recorded model and prints the largest absolute error of every recorded output as one JSON object.

    scripts/parity RECORDING.npz

The JSON beside the recording holds the configuration and the expected losses and metrics. Exit code 1 where an error
is over 1e-4.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

from sowa.core.config import AdapterConfig, ModelConfig, PromptConfig
from sowa.core.memory import MemoryBank
from sowa.core.scoring import few_shot_map, paper_scores, zero_shot_map
from sowa.errors import InputError
from sowa.metrics import image_metrics, pixel_metrics
from sowa.model.authors import from_authors
from sowa.model.backbone import Backbone
from sowa.model.checkpoint import load_weights
from sowa.model.sowa import SowaNetwork
from sowa.training.losses import losses

TOLERANCE = 1e-4
METRICS = {
    "image-auroc": "image_AUROC",
    "image-ap": "image_AP",
    "image-f1-max": "image_F1Max",
    "pixel-auroc": "pixel_AUROC",
    "pixel-ap": "pixel_AP",
    "pixel-f1-max": "pixel_F1Max",
    "pixel-aupro": "pixel_AUPRO",
}
Arrays = dict[str, torch.Tensor]


def part(arrays: Arrays, prefix: str) -> Arrays:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def build(config: dict[str, Any], arrays: Arrays) -> SowaNetwork:
    """The recorded network: OpenAI-named CLIP weights, the authors' names for what is trained."""
    vision = CLIPVisionCfg(
        layers=config["vision_layers"],
        width=config["vision_width"],
        head_width=config["vision_head_width"],
        patch_size=config["patch_size"],
        image_size=config["image_size"],
    )
    text = CLIPTextCfg(width=config["text_width"], heads=config["text_heads"], layers=config["text_layers"])
    clip = CLIP(config["embed_dim"], vision_cfg=vision, text_cfg=text, quick_gelu=config["quick_gelu"])
    clip.load_state_dict(part(arrays, "clip/"))
    adapter = AdapterConfig(
        window_size=config["window_size"],
        depth=config["depth"],
        heads=config["adapter_heads"],
        value_only=config["value_only"],
        position_width=config["cpb_dim"],
    )
    prompt = PromptConfig(
        class_names=tuple(config["class_names"]),
        normal_templates=tuple(config["state_templates"]["normal"]),
        abnormal_templates=tuple(config["state_templates"]["anomaly"]),
        length=config["prompt_length"],
        text_linear=config["text_linear"],
    )
    model = ModelConfig(adapter=adapter, prompt=prompt, temperature=config["temperature"], sigma=config["sigma"])
    network = SowaNetwork(Backbone(clip, "recorded", config["levels"]), model)
    load_weights(network, from_authors(part(arrays, "sowa/")), "the recording")
    return network.eval()


@torch.no_grad()
def compute(network: SowaNetwork, config: dict[str, Any], inputs: Arrays) -> tuple[Arrays, dict[str, float]]:
    """Every recorded output, and the losses."""
    images, masks = inputs["images"], (inputs["masks"][:, 0] > 0).float()
    output = network(images, network.class_index(config["image_classes"]))
    bank = MemoryBank.build([network.backbone(inputs["references"]).patches], len(inputs["references"]))
    size = (images.shape[-2], images.shape[-1])
    summed = torch.stack(output.level_maps).sum(dim=0)
    smoothed = zero_shot_map(output.level_maps, network.config.sigma)
    kshot = few_shot_map(bank.distances(output.patches), output.grid, size)
    fused = smoothed + kshot
    outputs = {
        "image_features": output.image_feature,
        "text_features": network.prompts.encode(network.backbone),
        "class_text_features": output.class_text,
        "text_probs": output.text_probs,
        "sum_map": summed,
        "smoothed_map": smoothed,
        "kshot_map": kshot,
        "fused_map": fused,
        "paper_image_score": paper_scores(output.text_probs[:, 1], fused.amax(dim=(1, 2))),
    }
    for level in range(len(output.patches)):
        outputs[f"patches_{level}"] = output.patches[level]
        outputs[f"adapted_{level}"] = output.adapted[level]
        outputs[f"map_{level}"] = torch.stack([1 - output.level_maps[level], output.level_maps[level]], dim=1)
    parts = losses(output, inputs["labels"], masks)
    named = {
        "loss_ce": parts.cross_entropy,
        "loss_focal": parts.focal,
        "loss_dice": parts.dice,
        "loss": parts.total,
    }
    return outputs, {name: float(value) for name, value in named.items()}


def metrics(arrays: Arrays) -> dict[str, float]:
    """The seven metrics of the recorded maps, the area under PRO as the authors compute it."""
    masks, maps = arrays["masks"].numpy() > 0, arrays["maps"].numpy()
    values = pixel_metrics(maps, masks, aupro="authors").metrics()
    values |= image_metrics(arrays["image_scores"].numpy(), [bool(mask.any()) for mask in masks]).metrics()
    return {theirs: float(values[ours]) for theirs, ours in METRICS.items()}


def error(ours: Any, recorded: Any) -> float:
    """Largest absolute difference; infinite where shapes differ or a value isn't a number."""
    ours, recorded = np.asarray(ours, dtype=np.float64), np.asarray(recorded, dtype=np.float64)
    if ours.shape != recorded.shape:
        return float("inf")
    largest = float(np.abs(ours - recorded).max())
    return largest if np.isfinite(largest) else float("inf")


def main(path: Path) -> int:
    if not path.is_file() or not path.with_suffix(".json").is_file():
        raise InputError(
            f"{path} and {path.with_suffix('.json').name} beside it are needed; give the path of a recording"
        )
    config = json.loads(path.with_suffix(".json").read_text())
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    outputs, loss_values = compute(build(config, arrays), config, part(arrays, "in/"))
    errors = {f"out/{key}": error(outputs[key], value) for key, value in part(arrays, "out/").items() if key in outputs}
    unknown = sorted(part(arrays, "out/").keys() - outputs.keys())
    errors |= {f"out/{key}": float("inf") for key in unknown}
    errors |= {name: error(loss_values[name], value) for name, value in config["expected"].items()}
    if "metrics" in config:
        ours = metrics(part(arrays, "metrics/"))
        errors |= {f"metrics/{name}": error(ours[name], value) for name, value in config["metrics"].items()}
    print(json.dumps(errors, indent=1))
    return int(max(errors.values()) > TOLERANCE)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print("usage: scripts/parity FILE.npz", file=sys.stderr)
        sys.exit(2)
    try:
        sys.exit(main(Path(sys.argv[1])))
    except InputError as problem:
        print(problem, file=sys.stderr)
        sys.exit(2)
