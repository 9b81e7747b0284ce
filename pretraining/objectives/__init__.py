"""What a pre-training minimises: ONE file an objective; `parts` holds what they are built from."""

from importlib import import_module
from pkgutil import iter_modules

from pretraining.objective import Objective


def find_objectives() -> dict[str, type[Objective]]:
    """Return the objective of each file of this folder, by the file's name."""
    names = [module.name for module in iter_modules(__path__) if not module.ispkg]
    return {name: _objective_in(f"{__name__}.{name}") for name in names}


def _objective_in(module: str) -> type[Objective]:
    """Return the one objective that a module defines; what it imports does not count."""
    classes = [item for item in vars(import_module(module)).values() if isinstance(item, type)]
    (found,) = (
        item for item in classes if issubclass(item, Objective) and item.__module__ == module
    )
    return found


OBJECTIVES = find_objectives()
