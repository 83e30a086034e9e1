"""The process's default dtype and device, changed for a while."""

from contextlib import contextmanager

import torch

DTYPES = (torch.float64, torch.bfloat16, torch.float16)


@contextmanager
def defaults(dtype=torch.float32, device=None):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    torch.set_default_device(device)
    try:
        yield
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(before)
        torch.set_default_device(None)
