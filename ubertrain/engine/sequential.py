"""Modules that are nothing but their children, called one after the other: a schedule may name these instead."""

from collections.abc import Callable, Sequence

from torch import nn


def is_its_children(module: nn.Module) -> bool:
    """Whether calling a module is calling its children one by one and nothing else."""
    plain = isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
    hooks = module._forward_pre_hooks, module._forward_hooks, module._backward_hooks, module._backward_pre_hooks
    return plain and not any(hooks)


def children_of(module: nn.Module) -> tuple[str, ...]:
    """The names of the children; not `named_children`, which leaves out a module that stands there twice."""
    return tuple(module._modules)


def spelled(find: Callable[[str], nn.Module], stage: str, names: Sequence[str]) -> list[str] | None:
    """How `names` begin if they begin with `stage`, by its name or by its children's; None if they do not.

    Args:
        find: name -> module.
        stage: a name.
        names: what may begin with it.
    """
    if names[:1] == [stage]:
        return [stage]
    if not names or not names[0].startswith(f"{stage}.") or not is_its_children(find(stage)):
        return None
    found: list[str] = []
    for child in children_of(find(stage)):
        part = spelled(find, f"{stage}.{child}", names[len(found) :])
        if part is None:
            return None
        found += part
    return found
