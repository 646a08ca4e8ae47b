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

__all__ = ["array_of", "flat_array", "flat_bytes", "view"]

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


def array_of(dtype: str, shape: tuple[int, ...], stype: str, data: bytes | memoryview) -> Array:
    """Return an array of these very bytes, which may lie in a file that is mapped into memory.

    Put it into a record under a name: a record that is made of a mapping makes its arrays anew.

    Args:
        dtype: its type, in Flower's words.
        shape: its shape.
        stype: the format of its bytes.
        data: they themselves, not copied; nobody may change them while the array lives.
    """
    array = Array(dtype, shape, stype, b"")
    # Flower takes nothing but ``bytes`` from whoever makes an array, and asks no more afterwards.
    array.data = data  # type: ignore[assignment]
    return array


def view(array: Array, kind: Literal["float32", "uint8"]) -> NDArray[Any]:
    """Return an array, read-only; a view of its bytes if they are :func:`flat_array`'s.

    Args:
        array: from outside; it may be of any type and shape. Its bytes may be a view, of a file
            that is mapped into memory, say.
        kind: what is expected, and read without a copy.
    """
    data, descr = flat_bytes(array.data), _DESCR[kind]
    size = (len(data) - len(_header(descr, 0))) // np.dtype(descr).itemsize
    if array.stype == _NPY and size > 0:
        header = _header(descr, size)
        found = np.dtype(descr).itemsize * size
        if len(data) == len(header) + found and data[: len(header)] == header:
            return np.frombuffer(data, dtype=descr, offset=len(header))
    if array.stype != _NPY:
        raise ValueError("another format")
    return _read(data)


def flat_bytes(data: Any) -> bytes | memoryview:
    """Return an array's bytes, read-only, if they are bytes or a plain view of some.

    Raises:
        ValueError: when they are something else.
    """
    if type(data) is bytes:
        return data
    if type(data) is memoryview and (data.format, data.ndim) == ("B", 1) and data.c_contiguous:
        return data.toreadonly()
    raise ValueError("neither bytes nor a plain view of them")


def _read(data: bytes | memoryview) -> NDArray[Any]:
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
