"""Where and how precisely to compute."""

import pytest
import torch

from sowa.encoders.devices import choose_device, choose_precision
from sowa.errors import InputError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, "bf16"),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, "fp32"),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True}, "bf16"),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": False}, "fp32"),
        ({"architecture": "aarch64"}, "fp32"),
    ],
)
def test_auto_precision_is_the_faster_one(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, object], expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert choose_precision("auto", CPU) == expected


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="allowed are auto, fp32, bf16"):
        choose_precision("fp64", CPU)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="allowed are auto, cpu"):
        choose_device("tpu")
