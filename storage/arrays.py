"""Named float32 and float64 arrays as safetensors bytes, read without trusting them.

What a header claims is compared with the bytes that follow it, and with what a file may hold at all, before an array
is made; nothing is ever unpickled. Arrays are made contiguous first: the format stores a strided array's bytes in the
wrong order, silently.
"""

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from storage.files import Place

LARGEST = 2**30  # bytes; the largest network that a form allows has 8 million numbers, and is kept four times over
_KINDS = {"F32": np.float32, "F64": np.float64}
Arrays = dict[str, np.ndarray]


def pack(arrays: Arrays, metadata: dict[str, str] | None = None) -> bytes:
    """The arrays as bytes, the same for the same content."""
    contiguous = {name: np.asarray(array, order="C") for name, array in sorted(arrays.items())}
    return save(contiguous, metadata=metadata)


def unpack(content: bytes) -> Arrays:
    """The arrays. Raises ValueError for anything else, before it takes memory for what is only claimed."""
    if len(content) > LARGEST:
        raise ValueError(f"{len(content)} bytes are more than the {LARGEST} that arrays may take")
    try:
        entries = deserialize(content)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    strange = sorted({entry["dtype"] for _, entry in entries} - set(_KINDS))
    if strange:
        raise ValueError(f"it holds numbers of type {strange[0]}, not only {' and '.join(_KINDS)}")
    return {
        name: np.frombuffer(entry["data"], _KINDS[entry["dtype"]]).reshape(entry["shape"]) for name, entry in entries
    }


def read(file: Place) -> bytes:
    """The bytes of a file of arrays. Raises ValueError, with nothing read, where there are too many of them."""
    size = file.stat().st_size
    if size > LARGEST:
        raise ValueError(f"{size} bytes are more than the {LARGEST} that arrays may take")
    return file.read_bytes()
