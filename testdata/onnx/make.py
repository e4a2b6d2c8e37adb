"""Writes the models beside this script: what the reader and the writer must carry through.

    kept.onnx       inner graphs that capture, a function, another operator set, a sparse initializer, annotations
    constants.onnx  every form of `Constant`
    elements.onnx   an initializer of each element type, once raw and once in its typed list
    ir3.onnx        initializers that are inputs too, as IR versions before 4 want them
    external.onnx   elements in external.bin

Run: $(scripts/python) testdata/onnx/make.py
"""

import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = os.path.dirname(os.path.abspath(__file__))
FLOAT = TensorProto.FLOAT
NEWEST_ELEMENT_TYPE = 26  # of IR version 13
info = helper.make_tensor_value_info


def write(name, graph, opset, ir, check=True, **more):
    opsets = [helper.make_opsetid("", opset)] + more.pop("opsets", [])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=ir, producer_name="make.py", **more)
    if check:
        onnx.checker.check_model(model, full_check=True)
    with open(os.path.join(HERE, name), "wb") as file:
        file.write(model.SerializeToString(deterministic=True))


def kept():
    branch = lambda name, value: helper.make_graph(
        [helper.make_node("Mul", ["scaled", value], [f"{name}_out"])],
        name, [], [info(f"{name}_out", FLOAT, ["N", 2])],
        [numpy_helper.from_array(np.float32([2.0, -1.0]), f"{name}_own")],
    )
    sparse = onnx.SparseTensorProto()
    sparse.values.CopyFrom(numpy_helper.from_array(np.float32([5.0]), "bias"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.int64([1])))
    sparse.dims.append(2)
    nodes = [
        helper.make_node("Scale", ["x"], ["scaled"], name="scale", domain="own", factor=2.0),
        helper.make_node("Not", ["flag"], ["other"], name="not"),
        helper.make_node("If", ["other"], ["chosen"], name="choose",
                         then_branch=branch("yes", "outer"), else_branch=branch("no", "no_own")),
        helper.make_node("Add", ["chosen", "bias"], ["sum"], name="add", doc_string="adds"),
        helper.make_node("Mystery", ["sum"], ["y"], name="mystery", domain="unknown.set", depth=3),
    ]
    nodes[3].metadata_props.add(key="origin", value="layer 3")
    graph = helper.make_graph(
        nodes, "kept",
        [info("x", FLOAT, ["N", 2], doc_string="an input"), info("flag", TensorProto.BOOL, [])], [info("y", FLOAT, ["N", 2])],
        [numpy_helper.from_array(np.float32([3.0, 4.0]), "outer"), numpy_helper.from_array(np.float32([9.0]), "nobody_reads_it")],
        doc_string="a graph", value_info=[info("sum", FLOAT, ["N", 2])], sparse_initializer=[sparse],
    )
    graph.metadata_props.add(key="in the graph", value="1")
    annotation = graph.quantization_annotation.add(tensor_name="sum")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="outer")
    factor = helper.make_node("Constant", [], ["f"])
    factor.attribute.add(name="value_float", ref_attr_name="factor", type=onnx.AttributeProto.FLOAT)
    scale = helper.make_function(
        "own", "Scale", ["a"], ["b"], [factor, helper.make_node("Mul", ["a", "f"], ["b"])],
        [helper.make_opsetid("", 21)], ["factor"],
    )
    # Only the full check refuses sparse initializers.
    model = helper.make_model(
        graph, functions=[scale], ir_version=10, producer_name="make.py", producer_version="1", domain="example", model_version=7,
        doc_string="a model", opset_imports=[helper.make_opsetid(d, v) for d, v in [("", 21), ("own", 1), ("unknown.set", 2)]],
    )
    helper.set_model_props(model, {"classes": "cat,dog", "mean": "0.5"})
    onnx.checker.check_model(model)
    with open(os.path.join(HERE, "kept.onnx"), "wb") as file:
        file.write(model.SerializeToString(deterministic=True))


def constants():
    forms = {
        "value": numpy_helper.from_array(np.float32([[1.0, 2.0]])), "value_float": 0.5, "value_floats": [1.5, -2.5],
        "value_int": 7, "value_ints": [1, -1], "value_string": "hi", "value_strings": ["a", "bc"],
    }
    nodes = [helper.make_node("Constant", [], [form], **{form: value}) for form, value in forms.items()]
    nodes += [helper.make_node("Identity", [form], [f"{form}_out"]) for form in forms]
    kinds = dict.fromkeys(forms, FLOAT) | dict.fromkeys(["value_int", "value_ints"], TensorProto.INT64)
    kinds |= dict.fromkeys(["value_string", "value_strings"], TensorProto.STRING)
    shapes = {"value": [1, 2], "value_floats": [2], "value_ints": [2], "value_strings": [2]}
    outputs = [info(f"{form}_out", kinds[form], shapes.get(form, [])) for form in forms]
    write("constants.onnx", helper.make_graph(nodes, "constants", [], outputs), 17, 8)


def elements():
    """Each holds the two elements 1 and 0, or true and false, or "1" and ""."""
    raw, typed = [], []
    for name, code in sorted(TensorProto.DataType.items(), key=lambda item: item[1]):
        if not 1 <= code <= NEWEST_ELEMENT_TYPE:
            continue
        if code == TensorProto.STRING:
            typed.append(helper.make_tensor("typed_STRING", code, [2], [b"1", b""]))
            continue
        array = np.array([1, 0]).astype(helper.tensor_dtype_to_np_dtype(code))
        raw.append(numpy_helper.from_array(array, f"raw_{name}"))
        assert raw[-1].data_type == code and raw[-1].HasField("raw_data"), name
        typed.append(helper.make_tensor(f"typed_{name}", code, [2], array))
        assert not typed[-1].HasField("raw_data"), name
    tensors = raw + typed
    nodes = [helper.make_node("Identity", [t.name], [f"{t.name}_out"]) for t in tensors]
    outputs = [info(f"{t.name}_out", t.data_type, [2]) for t in tensors]
    # The checker is behind the newest types.
    write("elements.onnx", helper.make_graph(nodes, "elements", [], outputs, tensors), 25, 13, check=False)


def ir3():
    weight = numpy_helper.from_array(np.float32([[1.0, 2.0], [3.0, 4.0]]), "w")
    inputs = [info("x", FLOAT, [1, 2]), info("w", FLOAT, [2, 2])]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "ir3", inputs, [info("y", FLOAT, [1, 2])], [weight])
    write("ir3.onnx", graph, 8, 3)


def external():
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    inner = np.float32([10.0, 20.0, 30.0])
    with open(os.path.join(HERE, "external.bin"), "wb") as file:
        file.write(b"\xff" * 16 + weight.tobytes() + inner.tobytes())

    def outside(name, array, offset):
        tensor = TensorProto(name=name, data_type=FLOAT, dims=array.shape, data_location=TensorProto.EXTERNAL)
        for key, value in [("location", "external.bin"), ("offset", offset), ("length", array.nbytes)]:
            tensor.external_data.add(key=key, value=str(value))
        return tensor

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Mystery", ["product"], ["y"], domain="unknown.set", table=outside("", inner, 16 + weight.nbytes)),
    ]
    graph = helper.make_graph(
        nodes, "external", [info("x", FLOAT, [1, 2])], [info("y", FLOAT, [1, 3])], [outside("w", weight, 16)]
    )
    write("external.onnx", graph, 17, 8, check=False, opsets=[helper.make_opsetid("unknown.set", 1)])


if __name__ == "__main__":
    kept()
    constants()
    elements()
    ir3()
    external()
