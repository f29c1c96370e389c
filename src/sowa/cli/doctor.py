"""``sowa doctor``: can this machine run the package?"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from typing import Any

from sowa.cli.console import Console
from sowa.cli.info import describe_package
from sowa.cli.options import AsJson


def doctor(*, json_out: AsJson = False) -> None:
    """Check that this machine can run the package: versions, devices, and one image judged."""
    checks = _examine()
    Console().describe(checks, as_json=json_out)
    if checks["problems"]:
        sys.exit(1)


def _examine() -> dict[str, Any]:
    """Versions, devices, and the time of one image on the embedded backbone; what's wrong under ``problems``."""
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "free disk": f"{shutil.disk_usage('.').free / 1e9:.1f} GB",
        "libraries": describe_package()["libraries"],
    }
    problems = [f"{library} missing: pip install it" for library in facts["libraries"] if library.endswith("missing")]
    try:
        facts |= _judge_one_image()
    except Exception as error:  # whatever is wrong is what the doctor is asked for
        problems.append(f"judging an image failed: {type(error).__name__}: {error}")
    return facts | {"problems": problems}


def _judge_one_image() -> dict[str, Any]:
    import numpy as np
    import torch

    from sowa.detector.detector import Sowa
    from sowa.encoders.torch_encoder import TorchEncoder

    started = time.perf_counter()
    encoder = TorchEncoder.from_pretrained("mini")
    detector = Sowa(encoder)
    built = time.perf_counter()
    random = np.random.default_rng(0)
    normal = random.integers(0, 256, (96, 96, 3), dtype=np.uint8)
    detector.fit(normal)
    ready = time.perf_counter()
    detector.predict(normal)
    judged = time.perf_counter()
    return {
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads, device {encoder.device}",
        "seconds": f"build {built - started:.2f}, fit one image {ready - built:.2f}, judge one {judged - ready:.2f}",
    }
