"""Writes the state dicts beside this script: what torch.save writes, by Python's own pickle module, without PyTorch.

Pickles name functions by module and name only, so that empty stand-ins for PyTorch's give the same bytes.
Run: python3 make.py (any Python from 3.8 on; the files do not depend on the version).
"""

import collections
import io
import os
import pickle
import struct
import sys
import types
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))


def stand_in(module, name):
    """An object that pickles as `module.name`."""
    made = type(name, (), {"__module__": module})
    made.__qualname__ = name
    parent = sys.modules.setdefault(module, types.ModuleType(module))
    setattr(parent, name, made)
    return made


# struct's format and the octets of one element by storage type
TYPES = {
    "FloatStorage": "f",
    "DoubleStorage": "d",
    "HalfStorage": "e",
    "BFloat16Storage": "H",
    "LongStorage": "q",
    "IntStorage": "i",
    "ShortStorage": "h",
    "CharStorage": "b",
    "ByteStorage": "B",
    "BoolStorage": "?",
}
STORAGES = {name: stand_in("torch", name) for name in TYPES}
REBUILD_TENSOR = stand_in("torch._utils", "_rebuild_tensor_v2")
REBUILD_PARAMETER = stand_in("torch._utils", "_rebuild_parameter")
SIZE = stand_in("torch", "Size")
NAMESPACE = stand_in("argparse", "Namespace_")


class Storage:
    def __init__(self, kind, values, key):
        self.kind, self.values, self.key = kind, values, key

    def octets(self, order="<"):
        return struct.pack(f"{order}{len(self.values)}{TYPES[self.kind]}", *self.values)


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class Pickler(pickle.Pickler):
    def __init__(self, file, protocol, legacy):
        super().__init__(file, protocol)
        self.legacy, self.storages = legacy, {}

    def persistent_id(self, obj):
        if not isinstance(obj, Storage):
            return None
        self.storages[obj.key] = obj
        view = (None,) if self.legacy else ()
        return ("storage", STORAGES[obj.kind], obj.key, "cpu", len(obj.values), *view)


def tensor(storage, size, stride, offset=0):
    return Call(REBUILD_TENSOR, storage, offset, size, stride, False, collections.OrderedDict())


def dumps(obj, protocol=2, legacy=False):
    file = io.BytesIO()
    pickler = Pickler(file, protocol, legacy)
    pickler.dump(obj)
    return file.getvalue(), pickler.storages


def save_zip(name, obj, protocol=2, byteorder="little"):
    data, storages = dumps(obj, protocol)
    order = {"little": "<", "big": ">"}[byteorder]
    with zipfile.ZipFile(os.path.join(HERE, name), "w", zipfile.ZIP_STORED) as archive:
        def write(record, octets):
            archive.writestr(zipfile.ZipInfo(f"archive/{record}", (1980, 1, 1, 0, 0, 0)), octets)

        write("data.pkl", data)
        write("byteorder", byteorder)
        for key, storage in storages.items():
            write(f"data/{key}", storage.octets(order))
        write("version", "3\n")


def save_legacy(name, obj):
    with open(os.path.join(HERE, name), "wb") as file:
        pickle.dump(0x1950A86A20F9469CFC6C, file, 2)
        pickle.dump(1001, file, 2)
        pickle.dump({"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}, file, 2)
        data, storages = dumps(obj, legacy=True)
        file.write(data)
        pickle.dump(sorted(storages), file, 2)
        for key in sorted(storages):
            file.write(struct.pack("<q", len(storages[key].values)) + storages[key].octets())


def state_dict(prefix=""):
    """Every element type, a shared storage, a transposed view, a parameter, an empty and a scalar tensor."""
    shared = Storage("FloatStorage", [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "0")
    entries = {
        "plain": tensor(shared, (2, 3), (3, 1)),
        "transposed": tensor(shared, (3, 2), (1, 3)),
        "tail": tensor(shared, (2,), (1,), 4),
        "parameter": Call(REBUILD_PARAMETER, tensor(shared, (6,), (1,)), True, collections.OrderedDict()),
        "scalar": tensor(Storage("DoubleStorage", [0.5], "1"), (), ()),
        "empty": tensor(Storage("FloatStorage", [], "2"), (0, 4), (4, 1)),
        "half": tensor(Storage("HalfStorage", [1.5, -2.0], "3"), (2,), (1,)),
        "bfloat16": tensor(Storage("BFloat16Storage", [0x3FC0, 0xC000], "4"), (2,), (1,)),
        "num_batches_tracked": tensor(Storage("LongStorage", [1 << 40], "5"), (), ()),
        "int32": tensor(Storage("IntStorage", [-7], "6"), (1,), (1,)),
        "int16": tensor(Storage("ShortStorage", [-300], "7"), (1,), (1,)),
        "int8": tensor(Storage("CharStorage", [-3], "8"), (1,), (1,)),
        "uint8": tensor(Storage("ByteStorage", [200], "9"), (1,), (1,)),
        "bool": tensor(Storage("BoolStorage", [True, False], "10"), (2,), (1,)),
    }
    state = collections.OrderedDict((prefix + name, value) for name, value in entries.items())
    state._metadata = collections.OrderedDict([("", {"version": 1})])
    return state


def one(name="weight"):
    return {name: tensor(Storage("FloatStorage", [1.0, 2.0], "0"), (2,), (1,))}


save_legacy("legacy.pth", state_dict())
# As Python 2 pickled ordered dictionaries.
save_legacy("python2.pth", Call(collections.OrderedDict, [[name, value] for name, value in state_dict().items()]))
save_zip("zip.pth", state_dict())
save_zip("big_endian.pth", state_dict(), byteorder="big")
for protocol in (3, 4, 5):
    save_zip(f"protocol{protocol}.pth", state_dict(), protocol)
save_zip("wrapped.pth", {
    "epoch": 90,
    "arch": "resnet18",
    "best_acc1": tensor(Storage("FloatStorage", [0.75], "99"), (), ()),
    "optimizer": {"state": {0: {"momentum_buffer": None}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0, 1]}]},
    "shape": Call(SIZE, (2, 3)),
    "seed": 1 << 70,
    "state_dict": state_dict("module."),
})
save_zip("not_tensors.pth", {"epoch": 3, "lr": 0.1})
save_zip("list.pth", [1, 2])
save_zip("namespace.pth", {"args": Call(NAMESPACE), **one()})
save_zip("command.pth", Call(os.system, "echo loaded"))
save_zip("outside.pth", {"weight": tensor(Storage("FloatStorage", [1.0, 2.0], "0"), (3,), (1,))})
save_zip("expanded.pth", {"weight": tensor(Storage("FloatStorage", [1.0], "0"), (1 << 40,), (0,))})
