"""Values out of a parsed YAML file, each checked and named by its key when it is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from xecg.errors import ConfigError

Choice = TypeVar("Choice", bound=str)


class Section:
    """One mapping of a YAML file, read key by key; :meth:`end` then refuses what is left.

    Args:
        given: What the file holds here.
        name: The file, and the keys that lead here.

    Raises:
        ConfigError: It is no mapping of keys.
    """

    def __init__(self, given: Any, name: str) -> None:
        if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
            raise ConfigError(f"{name}: expected keys with values, found {given!r}")
        self.name = name
        self._left = dict(given)
        self._known: list[str] = []

    def where(self, key: str) -> str:
        """How a message names a key."""
        return f"{self.name}: {key}"

    def end(self) -> None:
        """Refuse keys that nobody asked for.

        Raises:
            ConfigError: Names them, and those that there are.
        """
        if self._left:
            raise ConfigError(
                f"{self.name}: unknown {', '.join(map(str, self._left))}; "
                f"the keys here are {', '.join(self._known)}"
            )

    def section(self, key: str, *, required: bool = True) -> Section:
        """A mapping within this one; empty where it is absent and need not be there."""
        value = self._take(key, None if required else {})
        return Section({} if value is None and not required else value, self.where(key))

    def text(self, key: str) -> str:
        """A text that must be there."""
        value = self._take(key)
        if not isinstance(value, str) or not value:
            self._refuse(key, "a text", value)
        return str(value)

    def text_if_text(self, key: str) -> str | None:
        """A text; None, and the key is still there, where it is something else."""
        return self.text(key) if isinstance(self._left.get(key), str) else None

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of texts; None where it is absent."""
        value = self._take(key, None)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            self._refuse(key, "a list of texts", value)
        return tuple(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            self._refuse(key, "true or false", value)
        return bool(value)

    def choice(self, key: str, choices: Sequence[Choice], default: Choice) -> Choice:
        """One of some words."""
        value = self._take(key, default)
        if value not in choices:
            self._refuse(key, " or ".join(choices), value)
        return choices[choices.index(value)]

    def whole_number(self, key: str, low: int) -> int | None:
        """A number from ``low`` on; None where it is absent."""
        value = self._take(key, None)
        if value is not None and not (_is_whole(value) and value >= low):
            self._refuse(key, f"a whole number from {low} on, or null", value)
        return value if value is None else int(value)

    def whole_numbers(self, key: str, low: int, high: int) -> tuple[int, ...]:
        """A list of numbers that must be there."""
        value = self._take(key)
        if not isinstance(value, list) or not all(_is_whole(n) and low <= n <= high for n in value):
            self._refuse(key, f"a list of whole numbers from {low} to {high}", value)
        return tuple(value)

    def mapping(self, key: str) -> dict[str, Any]:
        """Values by name, whatever they are; empty where it is absent."""
        value = self._take(key, None)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            self._refuse(key, "names with values", value)
        return dict(value)

    def _take(self, key: str, *default: Any) -> Any:
        self._known.append(key)
        if key not in self._left and not default:
            raise ConfigError(f"{self.name}: the key {key} is missing")
        return self._left.pop(key, *default)

    def _refuse(self, key: str, expected: str, found: Any) -> None:
        raise ConfigError(f"{self.where(key)}: expected {expected}, found {found!r}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
