"""Errors that a user can act on: what was expected, what was found, where, and what to do."""

from sys import float_info


class XECGError(Exception):
    """Base of every error that xecg raises on bad input."""

    def __str__(self) -> str:  # bytes of a path that are no UTF-8 are escaped
        return super().__str__().encode(errors="backslashreplace").decode()


class RecordError(XECGError):
    """A record that cannot be read or does not hold what was asked of it."""


class DataError(XECGError):
    """A database, its labels, or a mixture of data that cannot be used as asked."""


class StoreError(XECGError):
    """A prepared store that is missing, incomplete, or was made with other settings."""


class WeightsError(XECGError):
    """A weights file that does not fit the network that is to take it."""


class ConfigError(XECGError):
    """A setting that contradicts another one or is outside its range."""


class UnwritableError(ConfigError, OSError):
    """A file that cannot be written where it was asked for."""


class NetworkError(XECGError):
    """A network that is built wrongly, or holds a layer that an explanation does not cover."""


class ExportError(XECGError):
    """An exported file that would not say what its network says."""


class DivergedError(XECGError):
    """A training whose loss or weights are no finite numbers any more."""


class StudyError(XECGError):
    """The folder of a study that cannot be used, or a cell of it that failed."""


class ExecutorError(XECGError):
    """Work that cannot be done where it was to be done."""


class WorkerDiedError(ExecutorError):
    """An item that kills every process that works on it."""


class UnknownNameError(ConfigError, KeyError):
    """A name that is not registered."""

    __str__ = Exception.__str__  # KeyError quotes its message


def check_ranges(where: str = "", /, **ranges: tuple[float, ...]) -> None:
    """Raises ConfigError for a value below its lowest or above its highest, or not finite.

    ``ranges`` are (value, lowest) or (value, lowest, highest); ``where`` precedes their names.
    """
    for key, (value, low, *high) in ranges.items():
        if not low <= value <= min([*high, float_info.max]):
            upper = f" to {high[0]:g}" if high else " or more"
            raise ConfigError(f"{where}{key}: expected {low:g}{upper}, found {value}")
