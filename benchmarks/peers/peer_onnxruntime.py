"""ONNX Runtime among the peers: inference of the same network, written as an ONNX graph.

Fair to it: all graph optimisations, sequential execution, exactly the given number of
threads, which spin while they wait. Variants: ``run`` is the call that everybody writes,
``binding`` has input and output bound once and only runs.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from harness import Inference, Task, serve
from onnx import TensorProto, helper, numpy_helper

_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}


def graph(task: Task) -> onnx.ModelProto:
    """Gemm and activation by layer; at the end a softmax if the workload has one."""
    nodes, constants, name = [], [], "X"
    for k, (weight, bias) in enumerate(task.layers):
        constants += [numpy_helper.from_array(weight, f"W{k}")]
        constants += [numpy_helper.from_array(bias, f"b{k}")]
        nodes.append(helper.make_node("Gemm", [name, f"W{k}", f"b{k}"], [f"Z{k}"]))
        name = f"Y{k}"
        if k < len(task.layers) - 1:
            nodes.append(
                helper.make_node(_ACTIVATIONS[task.workload.activation], [f"Z{k}"], [name])
            )
        elif task.workload.loss == "cross_entropy":
            nodes.append(helper.make_node("Softmax", [f"Z{k}"], [name], axis=1))
        else:
            name = f"Z{k}"
    sizes = task.workload.sizes
    model = helper.make_model(
        helper.make_graph(
            nodes,
            task.workload.name,
            [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", sizes[0]])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", sizes[-1]])],
            constants,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,  # that every ONNX Runtime of recent years reads
    )
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
    outputs = [output.name for output in session.get_outputs()]
    if task.variant == "run":
        feed = {"X": task.X}
        return lambda: session.run(outputs, feed)[0]
    binding = session.io_binding()
    binding.bind_cpu_input("X", task.X)
    output = np.empty((len(task.X), task.workload.sizes[-1]), np.float32)
    binding.bind_output(outputs[0], "cpu", 0, np.float32, output.shape, output.ctypes.data)

    def infer() -> np.ndarray:
        session.run_with_iobinding(binding)
        return output

    return infer


if __name__ == "__main__":
    serve(None, inference, onnxruntime.__version__)
