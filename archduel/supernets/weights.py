"""Moving weights from a supernet to a network of its own."""

from __future__ import annotations

from torch import nn

__all__ = ["adopt", "plain_norms"]


def adopt(target: nn.Module, source: nn.Module) -> None:
    """Copies weights and buffers of ``source`` into ``target``, which has the same layers.

    A batch norm of ``target`` may have weights where that of ``source`` has none; they become 1 and 0, which computes the
    same.
    """
    for module in target.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    left_out = target.load_state_dict(source.state_dict(), strict=False)
    norms = {name for name, module in target.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert not left_out.unexpected_keys
    assert {key.rpartition(".")[0] for key in left_out.missing_keys} <= norms


def plain_norms(module: nn.Module) -> None:
    """Replaces every batch norm inside ``module`` by one without weights."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.BatchNorm2d(child.num_features, affine=False))
