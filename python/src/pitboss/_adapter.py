"""Adapters: a module, or a class in it, whose tools a pool serves."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any, Dict, Tuple

from pitboss._errors import AdapterError
from pitboss._tools import Tool, is_tool


class Adapter:
    """Base of adapters with state: ``setup`` runs once per worker before its first call, ``teardown`` once at its end."""

    def setup(self) -> None:
        """Load models, open connections. What it raises fails the start of the worker."""

    def teardown(self) -> None:
        """Close them. It must end within the pool's kill grace."""


def split(adapter: str) -> Tuple[str, str]:
    """``place:Class`` as its two halves; the class is empty when none is named."""
    place, colon, name = adapter.rpartition(":")
    if colon and place and "/" not in name:
        return place, name
    return adapter, ""


class _FreshLoader(importlib.machinery.SourceFileLoader):
    """Runs the file as it is now. The bytecode cache knows a file by its size and its time in whole seconds (importlib, PEP 552): a
    new version that comes within a second, or with a preserved time, would be taken for the old one and a restart load old code."""

    def path_stats(self, path: Any) -> Any:
        raise OSError("no cache")


def load_module(place: str, library: str) -> ModuleType:
    """Imports a module by name, or a file by path: then its directory is importable too, right after the library."""
    if not place.endswith(".py"):
        return importlib.import_module(place)
    path = os.path.abspath(place)
    directory, name = os.path.dirname(path), os.path.basename(path)[:-3]
    if directory not in sys.path:
        sys.path.insert(sys.path.index(library) + 1 if library in sys.path else 0, directory)
    spec = importlib.util.spec_from_file_location(name, path, loader=_FreshLoader(name, path))
    if spec is None or spec.loader is None:
        raise AdapterError("ADAPTER_INVALID", f"cannot import {path!r}: it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def find(module: ModuleType, class_name: str) -> Tuple[Any, Dict[str, Tool]]:
    """The adapter object (None for plain functions) and its tools by name."""
    if class_name:
        cls = getattr(module, class_name, None)
        if not isinstance(cls, type) or not issubclass(cls, Adapter):
            raise AdapterError("ADAPTER_INVALID", f"{module.__name__} has no class {class_name!r} derived from pitboss.Adapter")
        return _instance(cls)
    tools = {name: Tool(thing) for name, thing in vars(module).items() if is_tool(thing) and name == thing.__name__}
    classes = [
        thing
        for thing in vars(module).values()
        if isinstance(thing, type) and issubclass(thing, Adapter) and thing is not Adapter and thing.__module__ == module.__name__
    ]
    if not tools and len(classes) == 1:
        return _instance(classes[0])
    if not tools:
        hint = "mark a function with @pitboss.tool"
        if classes:
            hint = f"name one of its adapter classes, such as {module.__name__}:{classes[0].__name__}"
        else:
            for thing in vars(module).values():
                if isinstance(thing, type) and thing.__module__ == module.__name__ and any(map(is_tool, vars(thing).values())):
                    hint = f"its class {thing.__name__} has marked methods, but is not derived from pitboss.Adapter"
        raise AdapterError("ADAPTER_INVALID", f"{module.__name__} has no tools; {hint}")
    return None, tools


def _instance(cls: type) -> Tuple[Any, Dict[str, Tool]]:
    adapter = cls()
    tools = {}
    for name in dir(cls):
        if is_tool(getattr(cls, name, None)):
            tools[name] = Tool(getattr(adapter, name), name)
    if not tools:
        raise AdapterError("ADAPTER_INVALID", f"{cls.__name__} has no tools; mark a method with @pitboss.tool")
    return adapter, tools
