"""Things that have a name and may come from the user's own package."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pkgutil import resolve_name
from typing import Generic, TypeVar, cast

from xecg.errors import ConfigError, UnknownNameError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Databases, branches, attribution methods, statistics (``kind``): by name, from any package.

    A name is looked up among what was registered, then among the entry points of the group
    ``xecg.<kind>``, then as a class path (``my_package.module.Thing``).
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._registered: dict[str, T] = {}

    def register(self, name: str, thing: T) -> T:
        """Gives ``thing`` a name, and returns it; raises ConfigError if the name is taken."""
        if self._registered.setdefault(name, thing) is not thing:
            raise ConfigError(f"{self.kind}: {name!r} is registered already; choose another name")
        return thing

    def __getitem__(self, name: str) -> T:
        if name in self._registered:
            return self._registered[name]
        if name in self._installed:
            return cast(T, self._installed[name].load())
        module, _, attribute = name.rpartition(".")
        try:
            return cast(T, resolve_name(f"{module}:{attribute}"))
        except (ImportError, AttributeError, ValueError) as error:
            raise UnknownNameError(
                f"{self.kind}: expected one of {', '.join(self)}, or a class path such as "
                "my_package.module.Thing, of a package that is installed or a folder on "
                f"PYTHONPATH; found {name!r} ({error})"
            ) from error

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([*self._registered, *self._installed])

    def __len__(self) -> int:
        return len(list(iter(self)))

    @cached_property
    def _installed(self) -> dict[str, EntryPoint]:
        found = entry_points(group=f"xecg.{self.kind}")  # reads all packages, which takes 10 ms
        return {entry.name: entry for entry in found}
