"""Puts the trained parts of ``mini`` into the file that the package ships.

    python pretrain/build.py OUT TEXT src/sowa/weights/mini.safetensors

Reads ``OUT/stem.safetensors`` and ``OUT/vision.safetensors``, ``TEXT/text.safetensors``; writes half precision and
words in 8 bits, which more than halves the file; ``sowa`` computes with these values in full precision.
"""

from __future__ import annotations

import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

from sowa.core.files import replacing
from sowa.model.mini import UNTRAINED, compress, empty_clip

LICENSES = "EfficientNet-Lite2, MobileSAM: Apache-2.0; see docs/MODEL_CARD.md for the data"


def main(out: Path, text: Path, target: Path) -> None:
    stem = {f"visual.conv1.{name}": value for name, value in load_file(out / "stem.safetensors").items()}
    tensors = {**stem, **load_file(out / "vision.safetensors"), **load_file(text / "text.safetensors")}
    clip = empty_clip()
    missing, unexpected = clip.load_state_dict(tensors, strict=False)
    if unexpected or set(missing) - set(UNTRAINED):
        raise SystemExit(f"the parts don't make the network: missing {missing[:3]}, unexpected {unexpected[:3]}")
    with replacing(target) as part:
        save_file(compress(tensors), part, metadata={"license": LICENSES})
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
