"""What passes through torch, counted: memory alive at once, operations, bytes written."""

import weakref
from typing import Any


def counter() -> Any:
    """Returns a mode that counts what passes through it: bytes `alive`, `peak` and `written`; `operations`; `calls`."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import flop_registry

    # torch counts attention on a GPU alone.
    aten = torch.ops.aten
    flops = {
        **flop_registry,
        aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[aten._scaled_dot_product_flash_attention],
        aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
            aten._scaled_dot_product_flash_attention_backward
        ],
    }

    class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.alive = self.peak = self.written = self.calls = 0
            self.operations = 0.0
            self._storages: dict[int, Any] = {}

        def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            given = kwargs or {}
            result = operation(*args, **given)
            self.calls += 1
            if (formula := flops.get(operation._overloadpacket)) is not None:
                self.operations += formula(*args, **given, out_val=result)
            for one in tree_leaves(result):
                if isinstance(one, torch.Tensor):
                    self.add(one)
            self.peak = max(self.peak, self.alive)
            return result

        def add(self, tensor: Any) -> None:
            """Counts a tensor's memory, once for all tensors that share it, until it is given back."""
            storage = tensor.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key in self._storages:
                return
            self.alive += size
            self.written += size

            def freed(_: Any) -> None:
                del self._storages[key]
                self.alive -= size

            self._storages[key] = weakref.ref(storage, freed)

    return Counter()
