"""ONNX Runtime among the peers: inference of the same network, written as an ONNX graph.

Fair to it: all graph optimisations, sequential execution, exactly the given number of
threads, which spin while they wait. Variants: ``run`` is the call that everybody writes,
``binding`` has input and output bound once and only runs.
"""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnxruntime
from onnx import numpy_helper

from . import Inference, Task

VERSION = onnxruntime.__version__

_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}


def graph(task: Task) -> onnx.ModelProto:
    """Gemm and activation by layer; at the end a softmax if the workload has one."""
    workload, nodes, name = task.workload, "", "X"
    after = [_ACTIVATIONS[workload.activation]] * (len(task.layers) - 1)
    after.append("Softmax" if workload.loss == "cross_entropy" else "Identity")
    for k, activation in enumerate(after):
        nodes += f"Z{k} = Gemm({name}, W{k}, b{k}) Y{k} = {activation}(Z{k}) "
        name = f"Y{k}"
    ends = f"(float[n, {workload.sizes[0]}] X) => (float[n, {workload.sizes[-1]}] {name})"
    versions = '<ir_version: 8, opset_import: ["": 17]>'  # that every recent ONNX Runtime reads
    model = onnx.parser.parse_model(f"{versions} {workload.name} {ends} {{ {nodes} }}")
    for k, layer in enumerate(task.layers):
        for letter, array in zip("Wb", layer, strict=True):
            model.graph.initializer.append(numpy_helper.from_array(array, f"{letter}{k}"))
    onnx.checker.check_model(model)
    return model


def inference(task: Task) -> Inference:
    """A session; ``run`` passes an array in and gets one out."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task.threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(
        graph(task).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (name,) = (output.name for output in session.get_outputs())
    if task.variant == "run":
        feed = {"X": task.X}
        return lambda: session.run([name], feed)[0]
    binding = session.io_binding()
    binding.bind_cpu_input("X", task.X)
    output = np.empty((len(task.X), task.workload.sizes[-1]), np.float32)
    binding.bind_output(name, "cpu", 0, np.float32, output.shape, output.ctypes.data)

    def infer() -> np.ndarray:
        session.run_with_iobinding(binding)
        return output

    return infer
