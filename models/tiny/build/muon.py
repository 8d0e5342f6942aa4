"""Muon for matrices, in single precision and batched by shape.

``torch.optim.Muon`` orthogonalises in bfloat16 one matrix at a time, which takes longer than the rest of a step on a
processor without bfloat16 units (0.9 s against 0.1 s here). Source: K. Jordan et al., "Muon: an optimizer for hidden
layers in neural networks" (2024); the scale that matches AdamW's is from J. Liu et al., arXiv:2502.16982.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist

_A, _B, _C = 3.4445, -4.7750, 2.0315  # the quintic Newton-Schulz iteration


def orthogonalised(matrices: torch.Tensor, *, steps: int = 5) -> torch.Tensor:
    """A batch of matrices (n, rows, columns) with their singular values brought near one."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    result: torch.Tensor = x.mT if tall else x
    return result


def _shared(matrices: torch.Tensor) -> torch.Tensor:
    """The batch orthogonalised, each process taking its share of the work."""
    if not dist.is_initialized():
        return orthogonalised(matrices)
    own = torch.arange(len(matrices)) % dist.get_world_size() == dist.get_rank()
    updates = torch.zeros_like(matrices)
    updates[own] = orthogonalised(matrices[own])
    dist.all_reduce(updates)
    return updates


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised, at a learning rate that means what it means for AdamW."""

    def __init__(
        self, matrices: Iterable[torch.Tensor], lr: float, *, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape[matrix.shape].append(matrix)
            for shape, matrices in by_shape.items():
                updates = _shared(torch.stack([self._momentum(one, group["momentum"]) for one in matrices]))
                scale = 0.2 * max(shape) ** 0.5
                for matrix, update in zip(matrices, updates, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * scale)

    def _momentum(self, matrix: torch.Tensor, momentum: float) -> torch.Tensor:
        """The Nesterov momentum of one matrix."""
        gradient = matrix.grad
        assert gradient is not None
        kept: torch.Tensor = self.state[matrix].setdefault("momentum", torch.zeros_like(matrix))
        kept.lerp_(gradient, 1 - momentum)
        return gradient.lerp(kept, momentum)
