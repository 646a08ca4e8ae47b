"""Arrays of a run folder, as safetensors: imported only where there are some to read or write.

Whoever looks at a run's other files, as a verification does, needn't wait for it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmodel.errors import RunFolderError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["arrays_in", "as_bytes", "load_arrays"]


def as_bytes(arrays: "dict[str, NDArray[Any]]") -> bytes:
    """Return named arrays as a safetensors file has them."""
    from safetensors.numpy import save

    return save(arrays)


def arrays_in(data: bytes, where: Path) -> "dict[str, NDArray[Any]]":
    """Return the named arrays in the bytes of a safetensors file.

    Args:
        data: of the file.
        where: it lies, for the message.

    Raises:
        RunFolderError: if it is truncated or not safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(data)
    except SafetensorError as error:
        raise RunFolderError(f"{where} can't be read ({error}); expected safetensors") from error


def load_arrays(path: Path) -> "dict[str, NDArray[Any]]":
    """Read named arrays from a safetensors file.

    Raises:
        RunFolderError: if it is missing, truncated or not safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunFolderError(f"{path} can't be read ({error}); expected safetensors") from error
