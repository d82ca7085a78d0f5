"""Model files: what is saved comes back bit for bit, and nothing else is believed.

The hostile files below are made from good ones, by hand for each rule of the format and by
hypothesis for what nobody thought of. Whatever is in a file, the loader raises
``FileFormatError`` or returns a whole model, and allocates in proportion to the file.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import stat
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastnn.kernels import contract
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastnn
from fastnn import Adam, Dense, Dropout, Sequential, files, optimizers
from fastnn.files.safetensors import FileFormatError, read_safetensors, write_safetensors

DTYPES = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1")


def network(dtype: str = "float32", **options: Any) -> Sequential:
    """A small network with every thing that a file must keep."""
    layers = [Dense(5, "tanh", use_bias=False), Dropout(0.25), Dense(3, "relu"), Dense(2)]
    return Sequential(layers, input_size=4, dtype=dtype, seed=7, **options)


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the tensors' bytes of a file."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(header: Any, data: bytes) -> bytes:
    """The file with this header: an object, or the text itself."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


# --------------------------------------------------------------------------- arrays


def test_every_dtype_and_layout_comes_back(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tensors: dict[str, Any] = {
        f"{dtype} {order}": (100 * random.random((3, 5))).astype(order + dtype)
        for dtype in DTYPES
        for order in "<>"
    }
    tensors |= {"transposed": np.arange(12.0).reshape(3, 4).T, "ünïcode \n": np.ones(1)}
    tensors |= {"strided": np.arange(24.0, dtype=np.float32)[::-3], "scalar": np.float64(2.5)}
    tensors["empty"] = np.zeros((0, 3), np.int16)
    write_safetensors(tmp_path / "a", tensors, {"key": "välue", "": ""})
    found, metadata = read_safetensors(tmp_path / "a")
    assert metadata == {"key": "välue", "": ""}
    assert found.keys() == tensors.keys()
    for name, expected in tensors.items():
        np.testing.assert_array_equal(found[name], expected, strict=name[0] in "<tse")
        assert found[name].shape == np.shape(expected)
        assert found[name].dtype.isnative
        assert found[name].flags.c_contiguous


def test_layout_of_the_file(tmp_path: Path) -> None:
    """The header is padded with spaces to a multiple of 8, every tensor is aligned."""
    tensors = {"a": np.ones(3, np.int8), "b": np.ones(3), "c": np.ones(1, np.float32)}
    write_safetensors(tmp_path / "a", tensors)
    content = (tmp_path / "a").read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    header, data = split(content)
    assert "__metadata__" not in header
    assert len(data) == 3 + 24 + 4
    for name, entry in header.items():
        assert entry["data_offsets"][0] % tensors[name].itemsize == 0


def test_a_file_by_the_book(tmp_path: Path) -> None:
    """Written out by hand from the description of the format."""
    entry = b'{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}'
    header = b'{"__metadata__":{"k":"v"},"w":' + entry + b"}"
    data = np.arange(6, dtype="<f4").reshape(2, 3)
    content = join(header + b" " * (-len(header) % 8), data.tobytes())
    (tmp_path / "theirs").write_bytes(content)
    found, metadata = read_safetensors(tmp_path / "theirs")
    np.testing.assert_array_equal(found["w"], data)
    write_safetensors(tmp_path / "ours", found, metadata)
    assert (tmp_path / "ours").read_bytes() == content


if importlib.util.find_spec("safetensors") is not None:

    def test_the_safetensors_library_agrees(tmp_path: Path) -> None:
        library = importlib.import_module("safetensors.numpy")
        tensors = {name: np.arange(6).reshape(2, 3).astype(name) for name in DTYPES}
        library.save_file(tensors, tmp_path / "theirs", {"k": "v"})
        write_safetensors(tmp_path / "ours", tensors, {"k": "v"})
        theirs, metadata = read_safetensors(tmp_path / "theirs")
        ours = library.load_file(tmp_path / "ours")
        assert metadata == {"k": "v"}
        for name, expected in tensors.items():
            np.testing.assert_array_equal(theirs[name], expected, strict=True)
            np.testing.assert_array_equal(ours[name], expected, strict=True)


@pytest.mark.parametrize(
    ("tensors", "metadata", "error"),
    [
        *(({"a": np.array([value])}, None, TypeError) for value in (1j, "x", None, True)),
        ({3: np.ones(1)}, None, TypeError),
        ({"a": np.ones(1)}, {"k": 1}, TypeError),
        ({"a": np.ones(1)}, {1: "v"}, TypeError),
        ({"__metadata__": np.ones(1)}, None, ValueError),
    ],
)
def test_what_cannot_be_stored(
    tmp_path: Path, tensors: Any, metadata: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        write_safetensors(tmp_path / "a", tensors, metadata)
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------- models


@pytest.mark.parametrize("has_state", [False, True])
def test_a_model_comes_back(tmp_path: Path, engine: Any, dtype: np.dtype, has_state: bool) -> None:
    random = np.random.default_rng(1)
    X, y = random.standard_normal((40, 4)), random.standard_normal((40, 2))
    model = network(dtype.name, engine=engine.NAME)
    model.fit(X, y, loss="mse", optimizer=Adam(1e-2), epochs=2, batch_size=16)
    model.save(tmp_path / "m", optimizer_state=has_state)
    loaded = fastnn.load(tmp_path / "m", engine=engine.NAME)
    assert loaded.get_config() == model.get_config()
    assert loaded.parameters.dtype == dtype
    np.testing.assert_array_equal(loaded.parameters, model.parameters)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    if has_state:  # both go on alike, bit for bit
        for each in (model, loaded):
            each.fit(X, y, loss="mse", optimizer=Adam(1e-2), epochs=2, batch_size=16, resume=True)
        np.testing.assert_array_equal(loaded.parameters, model.parameters)
    else:
        assert loaded.optimizer_state() is None


def test_names_and_shapes_are_the_documented_ones(tmp_path: Path) -> None:
    model = network()
    model.save(tmp_path / "m", metadata={"note": "mine"})
    tensors, metadata = read_safetensors(tmp_path / "m")
    names = ["0.weight", "1.weight", "1.bias", "2.weight", "2.bias"]
    shapes = [(4, 5), (5, 3), (3,), (3, 2), (2,)]
    assert {name: t.shape for name, t in tensors.items()} == dict(zip(names, shapes, strict=True))
    assert metadata["format"] == "fastnn"
    assert metadata["version"] == "2"
    assert files.read_metadata(tmp_path / "m")["note"] == "mine"
    np.testing.assert_array_equal(tensors["0.weight"], model.weights[0][0])


def test_a_diverged_model_is_not_saved(tmp_path: Path) -> None:
    model = network()
    model.save(tmp_path / "m")
    before = (tmp_path / "m").read_bytes()
    model._learner.parameters = np.where(np.arange(model.size) == 3, np.nan, model.parameters)
    with pytest.raises(ValueError, match="NaN"):
        model.save(tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == before


#: A rule as version 1 had it, and what is said otherwise in the forms that have other names now.
VERSION_1 = {
    **{"moments": 1, "momentum": 0.9, "beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-8},
    **dict.fromkeys(("nesterov", "rate_in_velocity", "epsilon_hat", "l2_by_weight"), False),
    **{"weight_decay": 0.1, "l2": 0.0, "clip_norm": 0.0},
}
FORMS = {
    "sgd": {"name": "sgd", "moments": 0},
    "momentum": {"name": "sgd"},
    "nesterov": {"name": "sgd", "nesterov": True},
    "velocity": {"name": "sgd", "rate_in_velocity": True},
    "nesterov_velocity": {"name": "sgd", "nesterov": True, "rate_in_velocity": True},
    "rmsprop": {"name": "rmsprop"},
    "rmsprop_momentum": {"name": "rmsprop", "moments": 2},
    "adagrad": {"name": "adagrad"},
    "adam": {"name": "adam", "moments": 2},
    "adam_hat": {"name": "adam", "moments": 2, "epsilon_hat": True},
    "adamw": {"name": "adamw", "moments": 2},
}


@pytest.mark.parametrize("name", FORMS)
def test_version_1_is_read(tmp_path: Path, name: str) -> None:
    """Its layers had no factors, its optimizers flags."""
    model = network()
    numbers = {n: VERSION_1[n] for n in contract.OPTIMIZERS[name].numbers}
    spec = contract.optimizer(name, weight_decay=0.1, **numbers)
    moments = tuple(k + np.arange(model.size, dtype=np.float32) for k in range(spec.moments))
    model.set_optimizer_state((5, moments, {"rule": optimizers.to_config(spec), "epochs": 3}))
    model.save(tmp_path / "m", optimizer_state=True)
    header, data = split((tmp_path / "m").read_bytes())
    metadata = header["__metadata__"]
    config, state = json.loads(metadata["model"]), json.loads(metadata["optimizer"])
    for layer in config["layers"]:
        for key in [key for key in layer if "factor" in key]:
            del layer[key]
    state["config"]["rule"] = VERSION_1 | FORMS[name]
    metadata |= {"version": "1", "model": json.dumps(config), "optimizer": json.dumps(state)}
    (tmp_path / "m").write_bytes(join(header, data))
    loaded = fastnn.load(tmp_path / "m")
    assert loaded.layers == model.layers
    assert loaded.optimizer_state()[::2] == model.optimizer_state()[::2]
    assert all(map(np.array_equal, loaded.optimizer_state()[1], moments))


# --------------------------------------------------------------------------- atomic


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, error: BaseException
) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    path = tmp_path / "m"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, function, fail)
    with pytest.raises(type(error)):
        network().save(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["m"]


def test_the_file_and_its_folder_are_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    network().save(tmp_path / "m")
    assert synced == [False, True]


def test_links_and_permissions_stay(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"old")
    (tmp_path / "m").chmod(0o640)
    (tmp_path / "link").symlink_to("m")
    network().save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o640
    fastnn.load(tmp_path / "m")


def test_errors_of_the_file_system_are_oserrors(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no" / "m"):
        with pytest.raises(OSError):  # noqa: PT011 - its kind is the platform's
            network().save(path)
        with pytest.raises(OSError):  # noqa: PT011
            fastnn.load(path)
    assert os.listdir(tmp_path) == []


# --------------------------------------------------------------------------- hostile files


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A model file with an optimizer's state."""
    path = tmp_path_factory.mktemp("good") / "m"
    model = network()
    X = np.random.default_rng(2).standard_normal((8, 4))
    model.fit(X, X[:, :2], loss="mse", optimizer=Adam(1e-3), epochs=1)
    model.save(path, optimizer_state=True)
    return path.read_bytes()


def load_bounded(path: Path, content: bytes) -> Sequential:
    """Load, and hold the loader to its promise about memory."""
    path.write_bytes(content)
    tracemalloc.start()
    try:
        return fastnn.load(path, engine="numpy")
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        # A parsed header takes up to some hundred bytes per byte, plus a constant.
        assert peak < 2_000_000 + 400 * len(content)


def edit(**changes: Any) -> Any:
    """A change of one tensor's entry."""
    return lambda header, data: join(header | {"0.weight": header["0.weight"] | changes}, data)


def edit_metadata(key: str, value: Any) -> Any:
    """A change of one line of the metadata; None removes it."""

    def change(header: dict[str, Any], data: bytes) -> bytes:
        header["__metadata__"] = {
            k: v for k, v in (header["__metadata__"] | {key: value}).items() if v is not None
        }
        return join(header, data)

    return change


def edit_json(key: str, *path: Any, value: Any) -> Any:
    """A change inside the JSON of one line of the metadata."""

    def change(header: dict[str, Any], data: bytes) -> bytes:
        found = tree = json.loads(header["__metadata__"][key])
        for step in path[:-1]:
            found = found[step]
        found[path[-1]] = value
        return edit_metadata(key, json.dumps(tree))(header, data)

    return change


HOSTILE = {
    "empty": lambda header, data: b"",
    "seven bytes": lambda header, data: b"1234567",
    "header longer than the file": lambda header, data: (2**63).to_bytes(8, "little") + b"{}",
    "header of 2**64 - 1 bytes": lambda header, data: b"\xff" * 8 + b"{}",
    "no header": lambda header, data: bytes(8),
    "not text": lambda header, data: join(b"\xff\xfe", data),
    "not JSON": lambda header, data: join(b"{", data),
    "an array": lambda header, data: join([], b""),
    "deep nesting": lambda header, data: join(b"[" * 100_000, data),
    "huge number": lambda header, data: join(b'{"a":' + b"9" * 100_000 + b"}", data),
    "NaN": lambda header, data: join(b'{"a":NaN}', data),
    "infinite": lambda header, data: join(b'{"a":1e999}', data),
    "a name twice": lambda header, data: join(
        b'{"0.weight":0,' + json.dumps(header).encode()[1:], data
    ),
    "no tensors": lambda header, data: join({}, data),
    "entry is a list": lambda header, data: join(header | {"0.weight": []}, data),
    "entry is empty": lambda header, data: join(header | {"0.weight": {}}, data),
    "metadata is a list": lambda header, data: join(header | {"__metadata__": []}, data),
    "metadata holds a number": edit_metadata("note", 3),
    "extra key": edit(extra=1),
    "unknown dtype": edit(dtype="BF16"),
    "dtype is a number": edit(dtype=4),
    "another dtype of the size": edit(dtype="I32"),
    "negative size": edit(shape=[-4, -5]),
    "fractional size": edit(shape=[4.0, 5.0]),
    "bool size": edit(shape=[True, 20]),
    "other shape": edit(shape=[5, 4]),
    "huge shape": edit(shape=[2**40, 2**40]),
    "huge and empty": edit(shape=[2**62, 2**62, 0], data_offsets=[0, 0]),
    "many axes": edit(shape=[4, 5] + [1] * 100),
    "offsets reversed": edit(data_offsets=[80, 0]),
    "offsets negative": edit(data_offsets=[-80, 0]),
    "three offsets": edit(data_offsets=[0, 40, 80]),
    "offsets past the end": edit(data_offsets=[2**40, 2**40 + 80]),
    "too few bytes": lambda header, data: join(header, data[:-1]),
    "too many bytes": lambda header, data: join(header, data + b"\0"),
    "overlap": lambda header, data: join(
        header | {"1.bias": header["1.bias"] | {"data_offsets": [0, 12]}}, data
    ),
    "one tensor less": lambda header, data: join(
        {k: v for k, v in header.items() if k != "2.bias"}, data
    ),
    "one tensor more": lambda header, data: join(
        header | {"x": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}, data
    ),
    "a moment missing its name": lambda header, data: join(
        {k.replace("optimizer.1", "optimizer.7"): v for k, v in header.items()}, data
    ),
    "NaN in a weight": lambda header, data: join(header, b"\xff" * 4 + data[4:]),
    "another format": edit_metadata("format", "pt"),
    "no format": edit_metadata("format", None),
    "a later version": edit_metadata("version", "3"),
    "no version": edit_metadata("version", None),
    "no model": edit_metadata("model", None),
    "model is a list": edit_metadata("model", "[]"),
    "model is empty": edit_metadata("model", "{}"),
    "model names a key twice": edit_metadata("model", '{"layers":[],"layers":[]}'),
    "no layers": edit_json("model", "layers", value=[]),
    "layers is a dict": edit_json("model", "layers", value={}),
    "layer is a number": edit_json("model", "layers", 0, value=3),
    "layer of unknown type": edit_json("model", "layers", 0, "type", value="Exec"),
    "layer with an unknown setting": edit_json("model", "layers", 0, "path", value="/"),
    "units zero": edit_json("model", "layers", 0, "units", value=0),
    "units negative": edit_json("model", "layers", 0, "units", value=-5),
    "units huge": edit_json("model", "layers", 0, "units", value=2**40),
    "units beyond the file": edit_json("model", "layers", 0, "units", value=2**30),
    "units as text": edit_json("model", "layers", 0, "units", value="5"),
    "units as a fraction": edit_json("model", "layers", 0, "units", value=5.0),
    "unknown activation": edit_json("model", "layers", 0, "activation", value="__import__"),
    "softmax in the middle": edit_json("model", "layers", 0, "activation", value="softmax"),
    "bias where there is none": edit_json("model", "layers", 0, "use_bias", value=True),
    "dropout of all": edit_json("model", "layers", 1, "rate", value=1.0),
    "input size zero": edit_json("model", "input_size", value=0),
    "input size huge": edit_json("model", "input_size", value=2**62),
    "input size none": edit_json("model", "input_size", value=None),
    "dtype int8": edit_json("model", "dtype", value="int8"),
    "dtype a list": edit_json("model", "dtype", value=["float32"]),
    "other dtype than the tensors": edit_json("model", "dtype", value="float64"),
    "seed negative": edit_json("model", "seed", value=-1),
    "seed as text": edit_json("model", "seed", value="x"),
    "unknown setting of the model": edit_json("model", "surprise", value=1),
    "optimizer is empty": edit_metadata("optimizer", "{}"),
    "optimizer missing, moments there": edit_metadata("optimizer", None),
    "step negative": edit_json("optimizer", "step", value=-1),
    "step as a fraction": edit_json("optimizer", "step", value=1.5),
    "step beyond 64 bits": edit_json("optimizer", "step", value=2**70),
    "optimizer settings a list": edit_json("optimizer", "config", value=[]),
    "optimizer's numbers a list": edit_json("optimizer", "config", "rule", "numbers", value=[]),
    "a number more": edit_json("optimizer", "config", "rule", "numbers", "rho", value=0.5),
    "a rule of version 1": edit_metadata("version", "1"),
    "negative factor": edit_json("model", "layers", 0, "weight_decay_factor", value=-1.0),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(tmp_path: Path, good: bytes, name: str) -> None:
    content = HOSTILE[name](*split(good))
    assert content != good
    with pytest.raises(FileFormatError) as caught:
        load_bounded(tmp_path / "m", content)
    assert str(caught.value)


def test_the_good_file_is_not_refused(tmp_path: Path, good: bytes) -> None:
    """And neither is it when its header is written another way: the tests above can fail."""
    assert load_bounded(tmp_path / "m", good).optimizer_state() is not None
    load_bounded(tmp_path / "m", join(*split(good)))


def test_truncation_anywhere_is_refused(tmp_path: Path, good: bytes) -> None:
    for length in range(0, len(good), 7):
        with pytest.raises(FileFormatError):
            load_bounded(tmp_path / "m", good[:length])


fuzzed = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@fuzzed
@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1))
def test_flipped_bits(tmp_path: Path, good: bytes, flips: list[tuple[int, int]]) -> None:
    content = bytearray(good)
    for position, mask in flips:
        content[position % len(content)] ^= mask
    try:
        model = load_bounded(tmp_path / "m", bytes(content))
    except FileFormatError:
        return
    assert np.isfinite(model.parameters).all()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@fuzzed
@given(data=st.data(), value=json_values)
def test_any_value_anywhere_in_the_descriptions(
    tmp_path: Path, good: bytes, data: st.DataObject, value: Any
) -> None:
    header, tensors = split(good)
    key = data.draw(st.sampled_from(["model", "optimizer", "header"]))
    tree = header if key == "header" else json.loads(header["__metadata__"][key])
    node = tree
    while True:
        step = data.draw(
            st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node)))
        )
        if isinstance(node[step], (dict, list)) and node[step] and data.draw(st.booleans()):
            node = node[step]
            continue
        node[step] = value
        break
    if key != "header":
        header["__metadata__"][key] = json.dumps(tree)
    try:
        model = load_bounded(tmp_path / "m", join(header, tensors))
    except FileFormatError:
        return
    assert np.isfinite(model.parameters).all()


@fuzzed
@given(content=st.binary(max_size=200), length=st.integers(0, 250))
def test_random_bytes(tmp_path: Path, content: bytes, length: int) -> None:
    with pytest.raises(FileFormatError):
        load_bounded(tmp_path / "m", length.to_bytes(8, "little") + content)
