"""Model files: safetensors, read and written here with NumPy alone.

The format (https://github.com/huggingface/safetensors) is eight bytes with the length of
the header, little-endian; the header, a JSON object that gives each tensor a dtype, a
shape and a place; then the bytes of the tensors. Loading one runs no code from the file.

A model file holds ``0.weight`` (inputs, outputs), ``0.bias``, ``1.weight``, … for the dense
layers in order and, if asked for, the optimizer's moments ``optimizer.0``, … as flat as the
parameters. The rest stands in the header's metadata, strings by the format's rule::

    format "fastnn"   version "1"   model JSON   optimizer JSON (only with its moments)

Two promises. A save is atomic: the path holds the old file or the whole new one, whatever
happens in between. A load believes nothing: sizes are checked against the bytes that are
there, and shapes against the layers, before an array or a network is allocated, and every
fault of the content is a ``FileFormatError``.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import stat
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import checks, layers
from ..custom import CustomActivation
from ..kernels.loader import load as load_engine

if TYPE_CHECKING:
    from ..model import Sequential

Array = NDArray[Any]
Path = str | os.PathLike[str]

FORMAT, VERSION = "fastnn", "1"

_MAX_HEADER = 100_000_000  # bytes; the bound of the format's own implementation
_MAX_RANK = 32  # more axes than NumPy 1.26 has
_ALIGNMENT = 8  # of the tensors' bytes in the file
_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class FileFormatError(ValueError):
    """The content of a file is not what its format requires."""


# --------------------------------------------------------------------------- models


def save_model(
    model: Sequential,
    path: Path,
    optimizer_state: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a model to a safetensors file, atomically.

    Parameters
    ----------
    model : Sequential
    path : str or path-like
        Replaced if it exists.
    optimizer_state : bool
        Also store the optimizer's moments and step count, so that ``fit(resume=True)``
        of the loaded model goes on where this one stands.
    metadata : mapping of str to str, optional
        Further entries for the header, such as how inputs were prepared;
        ``read_metadata`` returns them.

    Raises
    ------
    ValueError
        If a parameter is NaN or infinite: the file could not be loaded.
    OSError
        If the file cannot be written; what was at ``path`` is untouched.
    """
    tensors: dict[str, Array] = {}
    for index, (weight, bias) in enumerate(model.weights):
        tensors[f"{index}.weight"] = weight
        if bias is not None:
            tensors[f"{index}.bias"] = bias
    header = dict(metadata or {})
    header |= {"format": FORMAT, "version": VERSION, "model": _to_json(model.get_config())}
    state = model.optimizer_state() if optimizer_state else None
    if state is not None:
        step, moments, description = state
        tensors |= {f"optimizer.{k}": moment for k, moment in enumerate(moments)}
        header["optimizer"] = _to_json({"step": step, "config": description})
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ValueError(f"{name} holds NaN or inf: a file with it could not be loaded")
    write_safetensors(path, tensors, header)


def load_model(
    path: Path, engine: str = "auto", custom: Mapping[str, CustomActivation] | None = None
) -> Sequential:
    """Read a model that ``save_model`` wrote.

    Parameters
    ----------
    path : str or path-like
    engine : str
        The engine to run it on: "auto", "cython", "numba" or "numpy".
    custom : mapping of str to CustomActivation, optional
        The functions that the file names; it holds no code.

    Returns
    -------
    Sequential
        With the stored parameters and, if the file has it, the optimizer's state.

    Raises
    ------
    FileFormatError
        If the file is not a whole and consistent model file.
    ValueError
        If it names a custom activation that ``custom`` lacks.
    OSError
        If it cannot be read.
    """
    from ..model import Sequential  # noqa: PLC0415 - the model API imports this page to save

    load_engine(engine)  # a wrong engine is no fault of the file
    with open(path, "rb") as file:
        entries, metadata = _read_header(file)
        config, optimizer = _describe(metadata)
        custom = _check_custom(config, custom)
        parameters = _parameter_shapes(config, custom)
        size = sum(math.prod(shape) for shape in parameters.values())
        count = sum(name.startswith("optimizer.") for name in entries) if optimizer else 0
        moments = {f"optimizer.{k}": (size,) for k in range(count)}
        _check_model_tensors(entries, parameters | moments, config["dtype"])
        tensors = _read_tensors(file, entries)
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise FileFormatError(f"{name} holds NaN or inf")
    try:
        model = Sequential.from_config(config | {"input_size": None}, engine, custom)
        flat = np.concatenate([tensors[name].ravel() for name in parameters])
        model._build(config["input_size"], flat)  # without drawing initial weights
        if optimizer:
            state = tuple(tensors[name] for name in moments)
            model.set_optimizer_state((optimizer["step"], state, optimizer["config"]))
    except (ValueError, TypeError, KeyError) as error:
        raise FileFormatError(f"the description of the model is not valid: {error}") from error
    return model


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, without its tensors; errors as ``load_model``."""
    with open(path, "rb") as file:
        return _read_header(file)[1]


def _describe(metadata: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The model's and the optimizer's JSON, as far as their outlines go."""
    if metadata.get("format") != FORMAT:
        raise FileFormatError(f"not a fastnn model: its format is {metadata.get('format')!r}")
    if metadata.get("version") != VERSION:
        raise FileFormatError(
            f"version {metadata.get('version')!r} of the file format is not known here; "
            f"this fastnn reads version {VERSION!r}"
        )
    config = parse_json(metadata.get("model", ""), "the model's description")
    if "optimizer" not in metadata:
        return config, None
    optimizer = parse_json(metadata["optimizer"], "the optimizer's description")
    if not _is_count(optimizer.get("step"), 0) or not isinstance(optimizer.get("config"), dict):
        raise FileFormatError("the optimizer's description lacks its step count or its settings")
    return config, optimizer


def _check_custom(
    config: Mapping[str, Any], custom: Mapping[str, CustomActivation] | None
) -> Mapping[str, CustomActivation]:
    """The user's functions, all that the description names among them."""
    if not isinstance(custom, Mapping | None):
        raise TypeError(f"custom must map names to fastnn.activation(f), not {custom!r}")
    custom = custom or {}
    for name, function in custom.items():
        checks.instance(f"custom[{name!r}]", function, CustomActivation, "fastnn.activation(f)")
    descriptions = config.get("layers")
    names = layers.custom_names(descriptions) if isinstance(descriptions, list) else []
    missing = [name for name in dict.fromkeys(names) if name not in custom]
    if missing:
        example = ", ".join(f"{name!r}: {name}" for name in missing)
        raise ValueError(
            f"the model uses the custom activation {missing[0]!r}, which is not in the file: "
            f"fastnn.load(path, custom={{{example}}})"
        )
    return custom


def _parameter_shapes(
    config: Mapping[str, Any], custom: Mapping[str, CustomActivation]
) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter that the description calls for."""
    inputs, descriptions = config.get("input_size"), config.get("layers")
    if not _is_count(inputs, 1) or not isinstance(descriptions, list):
        raise FileFormatError("the model's description lacks its input size or its layers")
    if config.get("dtype") not in ("float32", "float64"):
        raise FileFormatError(f"a model has no dtype {config.get('dtype')!r}")
    try:
        found = layers.check([layers.from_config(layer, custom) for layer in descriptions])
    except (ValueError, TypeError) as error:
        raise FileFormatError(f"the description of the layers is not valid: {error}") from error
    shapes: dict[str, tuple[int, ...]] = {}
    for index, layer in enumerate(layers.specifications(found, inputs)):
        shapes[f"{index}.weight"] = (layer.inputs, layer.outputs)
        if layer.use_bias:
            shapes[f"{index}.bias"] = (layer.outputs,)
    return shapes


def _check_model_tensors(
    entries: Mapping[str, _Entry], shapes: Mapping[str, tuple[int, ...]], dtype: str
) -> None:
    if entries.keys() != shapes.keys():
        odd = min(entries.keys() ^ shapes.keys())
        fault = "lacks" if odd in shapes else "has no use for"
        raise FileFormatError(f"the model {fault} tensor {odd!r}")
    for name, entry in entries.items():
        if entry.shape != shapes[name] or entry.dtype != np.dtype(dtype):
            raise FileFormatError(
                f"tensor {name!r} is {entry.dtype.name} {entry.shape}, "
                f"but its layer needs {dtype} {shapes[name]}"
            )


# --------------------------------------------------------------------------- safetensors


class _Entry(NamedTuple):
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
    """Write arrays to a safetensors file, atomically.

    Parameters
    ----------
    path : str or path-like
        Replaced if it exists.
    tensors : mapping of str to array_like
        Real numbers of 1 to 8 bytes, any strides and byte order.
    metadata : mapping of str to str, optional

    Raises
    ------
    TypeError
        If a dtype has no name in the format, or a name or a piece of metadata is no string.
    ValueError
        If a tensor is called ``__metadata__``.
    OSError
        If the file cannot be written; what was at ``path`` is untouched.
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
    text = _to_json(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    if len(text) > _MAX_HEADER:
        raise ValueError(f"the header would have {len(text)} bytes, more than {_MAX_HEADER}")
    parts = [len(text).to_bytes(8, "little"), text]
    write_atomically(path, [*parts, *(_bytes_of(arrays[name]) for name in order)])


def read_safetensors(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Read every tensor and the metadata of a safetensors file.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    tensors : dict of str to ndarray
        C-contiguous, native byte order, in the order of the header.
    metadata : dict of str to str

    Raises
    ------
    FileFormatError
        If the header is malformed, or does not fit the bytes that are there.
    OSError
        If the file cannot be read.
    """
    with open(path, "rb") as file:
        entries, metadata = _read_header(file)
        return _read_tensors(file, entries), metadata


def _read_header(file: BinaryIO) -> tuple[dict[str, _Entry], dict[str, str]]:
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


def _parse_entry(name: str, value: object) -> _Entry:
    match value:
        case {"dtype": str(code), "shape": list(shape), "data_offsets": [begin, end], **rest}:
            well_formed = not rest and code in _DTYPES and len(shape) <= _MAX_RANK
            well_formed &= all(_is_count(number, 0) for number in (*shape, begin, end))
            # Zero along one axis must not hide a size that no array can have.
            well_formed &= well_formed and math.prod(max(n, 1) for n in shape) < 2**59
        case _:
            well_formed = False
    if not well_formed:
        raise FileFormatError(f"the header's entry for tensor {name!r} is malformed")
    entry = _Entry(_DTYPES[code], tuple(shape), begin)
    if entry.nbytes != end - begin:
        raise FileFormatError(f"tensor {name!r} of shape {entry.shape} does not fit its bytes")
    return entry


def _read_tensors(file: BinaryIO, entries: Mapping[str, _Entry]) -> dict[str, Array]:
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


# --------------------------------------------------------------------------- JSON


def _to_json(value: object) -> str:
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


def _is_count(value: object, least: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63


# --------------------------------------------------------------------------- atomic writing


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
