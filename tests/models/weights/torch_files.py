"""Writes state dicts as PyTorch did before 1.6, without PyTorch."""

import io
import pickle
import sys
import types

import numpy as np

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {
    "protocol_version": VERSION,
    "little_endian": True,
    "type_sizes": {"short": 2, "int": 4, "long": 4},
}


class FloatStorage:
    pass


def _rebuild_tensor_v2():
    pass


class Storage:
    """The items of tensors, under a key."""

    def __init__(self, key, items):
        self.key, self.items = key, np.asarray(items, "<f4")


class Tensor:
    """A view of a storage; offset and strides count items."""

    def __init__(self, storage, offset, shape, strides):
        self.arguments = (storage, offset, shape, strides, False, {})

    def __reduce__(self):
        return _rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        if isinstance(value, Storage):
            return ("storage", FloatStorage, value.key, "cpu", len(value.items), None)
        return None


def dumps(value):
    """Pickles a value whose names are PyTorch's."""
    for name, module in ((FloatStorage, "torch"), (_rebuild_tensor_v2, "torch._utils")):
        name.__module__ = module
    fakes = {name: types.ModuleType(name) for name in ("torch", "torch._utils")}
    fakes["torch"].FloatStorage = FloatStorage
    fakes["torch._utils"]._rebuild_tensor_v2 = _rebuild_tensor_v2
    before = {name: sys.modules.get(name) for name in fakes}
    sys.modules.update(fakes)
    try:
        file = io.BytesIO()
        Pickler(file, protocol=2).dump(value)
        return file.getvalue()
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def state_file(state, storages, *, pickled=None, system=None):
    """Returns the bytes of a file; `pickled` stands for the pickle of the dict."""
    head = b"".join(pickle.dumps(value, 2) for value in (MAGIC, VERSION, system or SYSTEM))
    items = b"".join(
        len(storage.items).to_bytes(8, "little") + storage.items.tobytes() for storage in storages
    )
    keys = pickle.dumps([storage.key for storage in storages], 2)
    return head + (dumps(state) if pickled is None else pickled) + keys + items
