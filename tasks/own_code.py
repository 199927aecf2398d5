"""Strategies and terms of a person's own: modules found by dotted path, with the source that enters their keys.

A strategy is a module with `init(mask)` and `step(state, seen)`, or with `allocate(seen)`; see
`tasks.numerics.allocators`. Modules are looked for where Python looks, then in the folder in which `prism` was started.
Their source counts with that of every module beside them which they import.
"""

import ast
import hashlib
import importlib
import sys
from pathlib import Path
from types import ModuleType

from storage.errors import InputError

_LOADED: dict[str, dict[str, str]] = {}  # by path: the texts that were imported


def load(path: str) -> ModuleType:
    """The module at a dotted path, as its files are now.

    InputError, with what went wrong, where it cannot be imported.
    """
    texts = _texts(path)
    if path in _LOADED and _LOADED[path] != texts:  # a process that lives on must not run what was edited since
        for name in {*_LOADED[path], *texts}:
            sys.modules.pop(name, None)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(path)
    except Exception as error:  # whatever a person's own code raises
        raise InputError(f"module {path} cannot be imported: {error}; mend it, or name another") from error
    _LOADED[path] = texts
    return module


def strategy(path: str) -> ModuleType:
    """The module of a strategy. InputError where it has neither `init` and `step` nor `allocate`."""
    module = load(path)
    if not is_stepped(module) and not callable(getattr(module, "allocate", None)):
        raise InputError(f"module {path} has neither init and step nor allocate; define one of these as functions")
    return module


def is_stepped(module: ModuleType) -> bool:
    """Whether the strategy carries a state from session to session."""
    return callable(getattr(module, "init", None)) and callable(getattr(module, "step", None))


def source(path: str) -> str:
    """Hash of the module's source and of the modules beside it that it imports."""
    return hashlib.sha256(repr(sorted(_texts(path).items())).encode()).hexdigest()[:16]


def _texts(path: str) -> dict[str, str]:
    """Source by name of the module and of those beside it that it imports, directly or not."""
    waiting, found = [path], {}
    while waiting:
        name = waiting.pop()
        found[name] = _file(name).read_text()
        waiting += [other for other in _imported(name, found[name]) if other not in found and _beside(other, path)]
    return found


def _here() -> None:
    """Let Python look in the folder in which the program was started, last."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)


def _file(name: str) -> Path:
    """The file of a module, found without importing anything. InputError where there is none."""
    _here()
    place = _found(name)
    if place is None:
        raise InputError(
            f"there is no module {name}; give the dotted path of a Python file that can be imported from here"
        )
    return place


def _found(name: str) -> Path | None:
    parts = name.split(".")
    if all(part.isidentifier() for part in parts):
        for folder in map(Path, sys.path):
            for place in (folder.joinpath(*parts).with_suffix(".py"), folder.joinpath(*parts, "__init__.py")):
                if place.is_file():
                    return place
    return None


def _imported(name: str, text: str) -> set[str]:
    """Modules that the source imports anywhere, and for `from a import b` both a and a.b."""
    package, found = name.rpartition(".")[0], set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def _beside(name: str, path: str) -> bool:
    """Whether `name` is a file in the folder of the module at `path`, or below it."""
    place = _found(name)
    return place is not None and _file(path).parent in place.parents
