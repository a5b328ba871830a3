"""MATLAB files."""

from pathlib import Path
from typing import Any

from ubertrain.data.blame import blame
from ubertrain.errors import ConfigError, DataError


def read_mat(path: Path, key: str) -> Any:
    """The variable `key` of the MATLAB file `path` (version 7 or older), as scipy gives it.

    Raises:
        DataError: the file is missing, damaged, of version 7.3 (HDF5), or has no such variable.
        ConfigError: scipy is not installed.
    """
    variables = read_variables(path, key)
    with blame(path):
        if key not in variables:
            raise DataError(f"has no variable {key!r}")
        return variables[key]


def read_variables(path: Path, *keys: str) -> dict[str, Any]:
    """The variables of the MATLAB file `path` (version 7 or older) by name, or those of `keys` that it has.

    Raises:
        DataError: the file is missing, damaged, or of version 7.3 (HDF5).
        ConfigError: scipy is not installed.
    """
    try:
        from scipy.io import loadmat  # an extra: most data sets do without
    except ImportError as error:
        raise ConfigError(f"{path}: reading .mat files needs scipy; install it with pip install 'ubertrain[mat]'") from error
    with blame(path):
        if not path.is_file():
            raise DataError("there is no such file")
        try:
            variables = loadmat(path, variable_names=list(keys) or None)
        except NotImplementedError as error:
            raise DataError("MATLAB 7.3 files (HDF5) are not read; save it again with -v7") from error
        except Exception as error:  # scipy raises anything on damaged bytes: TypeError, zlib.error, ValueError, ...
            raise DataError(f"cannot be read as a MATLAB file ({error or type(error).__name__})") from error
        return {name: value for name, value in variables.items() if not name.startswith("__")}
