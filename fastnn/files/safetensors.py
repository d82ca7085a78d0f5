"""The safetensors format, read and written with NumPy alone.

A file (https://github.com/huggingface/safetensors) is eight bytes with the length of the
header, little-endian; the header, a JSON object that gives each tensor a dtype, a shape and
a place; then the bytes of the tensors. Loading one runs no code from the file.

Two promises. A save is atomic: the path holds the old file or the whole new one, whatever
happens in between. A load believes nothing: sizes are checked against the bytes that are
there before an array is allocated, and every fault of the content is a ``FileFormatError``.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import stat
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO, NamedTuple, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
Path = str | os.PathLike[str]

_MAX_HEADER = 100_000_000  # bytes; the bound of the format's own implementation
_MAX_RANK = 32  # more axes than NumPy 1.26 has
_ALIGNMENT = 8  # of the tensors' bytes in the file
_DTYPES = {
    f"{kind.upper()}{8 * size}": np.dtype(f"<{kind}{size}")
    for kind, sizes in (("f", (8, 4, 2)), ("i", (8, 4, 2, 1)), ("u", (8, 4, 2, 1)))
    for size in sizes
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class FileFormatError(ValueError):
    """The content of a file is not what its format requires."""


class Entry(NamedTuple):
    """A tensor's line in the header; ``begin`` counts from the end of the header."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def write_safetensors(
    path: Path, tensors: Mapping[str, ArrayLike], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays of real numbers of 1 to 8 bytes, any strides and byte order, atomically.

    TypeError if a dtype has no name in the format, or a name or a piece of metadata is no
    string; ValueError if a tensor has the format's own name; OSError if the file cannot be
    written.
    """
    arrays: dict[str, Array] = {}
    for name, tensor in tensors.items():
        array = np.asarray(tensor)
        dtype = array.dtype.newbyteorder("<")
        if not isinstance(name, str) or dtype not in _NAMES:
            raise TypeError(f"cannot store a tensor {name!r} of dtype {array.dtype}")
        if name == "__metadata__":
            raise ValueError("'__metadata__' is the format's own name, not one for a tensor")
        # Other strides than C would be stored in the order of memory. 0-d would become 1-d.
        arrays[name] = np.ascontiguousarray(array, dtype=dtype).reshape(array.shape)
    for key, value in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"metadata maps strings to strings, not {key!r} to {value!r}")
    # Widest elements first keeps each tensor aligned to its element.
    order = sorted(arrays, key=lambda name: -arrays[name].itemsize)
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        begin, end = end, end + arrays[name].nbytes
        header[name] = {
            "dtype": _NAMES[arrays[name].dtype],
            "shape": list(arrays[name].shape),
            "data_offsets": [begin, end],
        }
    text = to_json(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    if len(text) > _MAX_HEADER:
        raise ValueError(f"the header would have {len(text)} bytes, more than {_MAX_HEADER}")
    parts = [len(text).to_bytes(8, "little"), text]
    write_atomically(path, [*parts, *(_bytes_of(arrays[name]) for name in order)])


def read_safetensors(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Every tensor, C-contiguous and native, in the order of the header; and the metadata.

    FileFormatError if the header is malformed, or does not fit the bytes that are there.
    """
    with open(path, "rb") as file:
        entries, metadata = read_header(file)
        return read_tensors(file, entries), metadata


def read_header(file: BinaryIO) -> tuple[dict[str, Entry], dict[str, str]]:
    """Parse and check the header; leaves the file at the first tensor's first byte."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, _MAX_HEADER):
        raise FileFormatError("not a safetensors file: its header would not fit into it")
    try:
        text = file.read(length).decode()
    except UnicodeDecodeError as error:
        raise FileFormatError("not a safetensors file: its header is not text") from error
    header = parse_json(text, "the header")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FileFormatError("the header's metadata does not map strings to strings")
    entries = {name: _parse_entry(name, value) for name, value in header.items()}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].nbytes)):
        if entry.begin != end:
            raise FileFormatError(f"tensor {name!r} leaves a gap or overlaps another")
        end += entry.nbytes
    if end != size - 8 - length:
        raise FileFormatError(
            f"the tensors take {end} bytes, but the file has {size - 8 - length} for them"
        )
    return entries, metadata


def _parse_entry(name: str, value: object) -> Entry:
    match value:
        case {"dtype": str(code), "shape": list(shape), "data_offsets": [begin, end], **rest}:
            well_formed = not rest and code in _DTYPES and len(shape) <= _MAX_RANK
            well_formed &= all(is_count(number, 0) for number in (*shape, begin, end))
            # Zero along one axis must not hide a size that no array can have.
            well_formed &= well_formed and math.prod(max(n, 1) for n in shape) < 2**59
        case _:
            well_formed = False
    if not well_formed:
        raise FileFormatError(f"the header's entry for tensor {name!r} is malformed")
    entry = Entry(_DTYPES[code], tuple(shape), begin)
    if entry.nbytes != end - begin:
        raise FileFormatError(f"tensor {name!r} of shape {entry.shape} does not fit its bytes")
    return entry


def read_tensors(file: BinaryIO, entries: Mapping[str, Entry]) -> dict[str, Array]:
    start = file.tell()
    tensors: dict[str, Array] = {}
    for name, entry in entries.items():
        array: Array = np.empty(entry.shape, dtype=entry.dtype)
        file.seek(start + entry.begin)
        if file.readinto(_bytes_of(array)) != entry.nbytes:  # type: ignore[attr-defined]
            raise FileFormatError(f"the file ends within tensor {name!r}")
        tensors[name] = array.astype(entry.dtype.newbyteorder("="), copy=False)
    return tensors


def _bytes_of(array: Array) -> memoryview:
    """A view of a contiguous array's bytes."""
    return array.reshape(-1).view(np.uint8).data


def to_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def parse_json(text: str, what: str) -> dict[str, Any]:
    """Parse a JSON object strictly: no key twice, no NaN or inf; ``what`` names it in errors."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("a key stands twice")
        return result

    def finite(number: str) -> float:
        if not math.isfinite(value := float(number)):
            raise ValueError(f"{number} is not a finite number")
        return value

    try:
        value = json.loads(
            text, object_pairs_hook=unique, parse_float=finite, parse_constant=finite
        )
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{what} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise FileFormatError(f"{what} is not a JSON object")
    return value


def is_count(value: object, least: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63


def write_atomically(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write ``parts`` to a new file beside ``path``, then let it take the path's place.

    A link is followed, and an existing file's permissions are kept.
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    if os.path.isdir(target):
        raise IsADirectoryError(f"{os.fspath(path)!r} is a folder")
    temporary = os.path.join(folder, f".fastnn-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            if os.path.exists(target):
                os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
