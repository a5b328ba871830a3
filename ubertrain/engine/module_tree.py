"""Modules under dotted names, so that "trunk.res2.0" in a state means what "res2.0" means in a schedule."""

from collections.abc import Mapping

from torch import nn

from ubertrain.errors import TaskError


def nested(modules: Mapping[str, nn.Module]) -> nn.ModuleDict:
    """A tree of `nn.ModuleDict` in which "res2.0" is found at its dotted path, as in an `nn.Sequential`."""
    root = nn.ModuleDict()
    for name, module in modules.items():
        *path, leaf = name.split(".")
        parent = root
        for part in path:
            if part not in parent:
                add_named(parent, part, nn.ModuleDict(), f"trunk stage name {name!r}")
            parent = _container(parent[part], name)
        if leaf in parent:
            raise TaskError(f"trunk stage {name!r} is also the beginning of another stage's name; give them different names")
        add_named(parent, leaf, module, f"trunk stage name {name!r}")
    return root


def add_named(modules: nn.ModuleDict, name: str, module: nn.Module, what: str) -> None:
    """Put a module under a name; torch refuses an empty name, a dot, and the names of its own methods."""
    try:
        modules.add_module(name, module)
    except KeyError as error:
        raise TaskError(f"{what} cannot be used, choose another: {error.args[0]}") from error


def _container(module: nn.Module, name: str) -> nn.ModuleDict:
    if type(module) is not nn.ModuleDict:
        raise TaskError(f"trunk stage {name!r} begins with the name of another stage; give them different names")
    return module
