"""What a training runs on, as options. Knows no torch, so that a command line can be made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PrecisionName = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class HardwareOptions:
    """What it runs on. Under torchrun, SLURM and the like, the same --devices and --nodes as there."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Kind of device; auto takes the fastest there is."""
    devices: int = 1
    """Devices (processes, on a CPU) of each node."""
    nodes: int = 1
    """Machines."""
    precision: PrecisionName = "fp32"
    """Number format of the network; weights, loss and boxes stay in fp32."""
    accumulate: int = 1
    """Batches that make one step, where the memory does not hold them at once. Each has its own batch-norm statistics
    and divides its loss by its own positives."""
    sync_norms: bool = False
    """Batch-norm statistics over all devices; CUDA only."""
    count_positives_globally: bool = False
    """Divide the loss by the positives of all devices instead of each device's own: with --accumulate 1 and fixed
    batch norms, that is equal to one large batch."""
    channels_last: bool = True
    """Images and activations lie channels last in memory; with --no-channels-last, channels first."""
    compile: bool = False
    """Compile the network with torch.compile."""
    workers: int = 2
    """Processes that load and augment images; 0 loads them in the training process."""
    cache: Literal["none", "ram", "disk"] = "none"
    """Keep images, fitted to the input, in memory or on disk (OUTPUT/cache)."""
    cache_limit: float = 8.0
    """GiB that the cache of each process may take; what does not fit is read again each time."""
