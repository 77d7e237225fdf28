"""What a model costs, layer by layer: parameters, multiply-adds, activations, receptive field, memory.

Multiply-adds are torch's own count (`FlopCounterMode`, two FLOPs each). The receptive field is followed along the
graph that `torch.export` traces (Araujo et al. 2019, "Computing Receptive Fields of Convolutional Neural Networks").
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import prod

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from .receptive_field import receptive_fields
