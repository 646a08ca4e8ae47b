"""Flat vectors ↔ Flower arrays, without the copies that ``numpy.save`` and ``load`` make.

The bytes are those of the .npy format all the same.
"""

import functools
import math
from io import BytesIO
from typing import Any, Literal

import numpy as np
from flwr.app import Array
from numpy.typing import NDArray

__all__ = ["flat_array", "view"]

_NPY = "numpy.ndarray"  # Flower's name for the .npy format
_LONGEST_HEADER = 1 << 14  # bytes; of those that numpy reads, the longest has 10,000
_DESCR = {"float32": "<f4", "uint8": "|u1"}


def flat_array(data: bytes | memoryview, kind: Literal["float32", "uint8"]) -> Array:
    """Return a flat array of some little-endian numbers' bytes, copied once.

    Args:
        data: the bytes; a contiguous view of them may be of any type.
        kind: of the numbers.
    """
    size = memoryview(data).nbytes // np.dtype(_DESCR[kind]).itemsize
    return Array(kind, (size,), _NPY, b"".join((_header(_DESCR[kind], size), data)))


def view(array: Array, kind: Literal["float32", "uint8"]) -> NDArray[Any]:
    """Return an array, read-only; a view of its bytes if they are :func:`flat_array`'s.

    Args:
        array: from outside; it may be of any type and shape.
        kind: what is expected, and read without a copy.
    """
    data, descr = array.data, _DESCR[kind]
    size = (len(data) - len(_header(descr, 0))) // np.dtype(descr).itemsize
    if array.stype == _NPY and type(data) is bytes and size > 0:
        header = _header(descr, size)
        found = np.dtype(descr).itemsize * size
        if len(data) == len(header) + found and data.startswith(header):
            return np.frombuffer(data, dtype=descr, offset=len(header))
    if array.stype != _NPY:
        raise ValueError("another format")
    return _read(data)


def _read(data: bytes) -> NDArray[Any]:
    """Return whatever else the format allows, read-only.

    ``numpy.load`` makes room for what a header announces before it looks for it: here the header
    must announce what is there.
    """
    stream = BytesIO(data[:_LONGEST_HEADER])  # a view would do, if it could be read from
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, fortran, dtype = read(stream)
    start = stream.tell()
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data) - start:
        raise ValueError("not as many bytes as its header says")
    flat = np.frombuffer(data, dtype=dtype, offset=start)
    return flat.reshape(shape, order="F" if fortran else "C")


@functools.lru_cache(maxsize=64)
def _header(descr: str, size: int) -> bytes:
    """Return what ``numpy.save`` writes before a flat array of this type and size."""
    buffer = BytesIO()
    fields = {"descr": descr, "fortran_order": False, "shape": (size,)}
    np.lib.format.write_array_header_1_0(buffer, fields)
    return buffer.getvalue()
