"""The number format that a training computes in."""

from typing import Literal

import torch


def choose_precision(wanted: Literal["auto", "no", "bf16", "fp16"]) -> Literal["no", "bf16", "fp16"]:
    """For `auto`, `bf16` where the hardware has instructions for it: GPUs that support it, CPUs with AVX512-BF16 or
    AMX; otherwise `wanted` itself."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    capabilities = torch.cpu.get_capabilities()
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "no"
