"""PyTorch among the peers: the training loop of its tutorials, without what slows it down.

Fair to it: data are tensors from the start and batches are gathered by an index tensor
(a DataLoader would take several times longer); ``zero_grad(set_to_none=True)``; losses are
summed as tensors and read once an epoch; inference runs under ``inference_mode``, with a
tensor in and a tensor out.

Variants: ``eager`` with the default optimizers, ``fused`` with the optimizers' fused
kernels, ``compile`` with the network and loss compiled by ``torch.compile`` and a fused
optimizer.
"""

from __future__ import annotations

import numpy as np
import torch
from harness import Inference, Task, serve
from torch import nn

from fastnn import SGD

_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
_LOSSES = {"mse": nn.functional.mse_loss, "cross_entropy": nn.functional.cross_entropy}


def network(task: Task) -> nn.Sequential:
    """The workload's network; its last layer gives logits. Weights are stored (out, in)."""
    torch.set_num_threads(task.threads)
    modules: list[nn.Module] = []
    for weight, bias in task.layers:
        layer = nn.Linear(*weight.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight.T))
            layer.bias.copy_(torch.from_numpy(bias))
        modules += [layer, _ACTIVATIONS[task.workload.activation]()]
    return nn.Sequential(*modules[:-1])


class TorchTraining:
    """Batches by index, one optimizer step each."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.network = network(task)
        self.first = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.X, self.y = torch.from_numpy(task.X), torch.from_numpy(task.y)
        loss = _LOSSES[task.workload.loss]

        def loss_of(X: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return loss(self.network(X), y)

        is_compiled = task.variant == "compile"
        self.loss_of = torch.compile(loss_of, dynamic=False) if is_compiled else loss_of
        self.reset()

    def gradient(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        self.network.zero_grad()
        self.loss_of(torch.from_numpy(X), torch.from_numpy(y)).backward()
        return np.concatenate([p.grad.numpy().T.ravel() for p in self.network.parameters()])

    def reset(self) -> None:
        self.network.load_state_dict(self.first)
        rule = self.task.workload.optimizer
        options = {"fused": True} if self.task.variant in ("fused", "compile") else {}
        parameters = self.network.parameters()
        if isinstance(rule, SGD):
            options |= {"lr": rule.learning_rate, "momentum": rule.momentum}
            self.optimizer = torch.optim.SGD(parameters, **options)
        else:
            betas = rule.beta_1, rule.beta_2
            options |= {"lr": rule.learning_rate, "betas": betas, "eps": rule.epsilon}
            self.optimizer = torch.optim.Adam(parameters, **options)

    def train(self, epochs: int) -> float:
        X, y, optimizer, loss_of = self.X, self.y, self.optimizer, self.loss_of
        for _ in range(epochs):
            total = torch.zeros(())
            for rows in torch.randperm(len(X)).split(self.task.workload.batch_size):
                optimizer.zero_grad(set_to_none=True)
                loss = loss_of(X[rows], y[rows])
                loss.backward()
                optimizer.step()
                total.add_(loss.detach(), alpha=len(rows))
            mean = total.item() / len(X)
        return mean


def inference(task: Task) -> Inference:
    """A call of the module, with the softmax that the workload has."""
    module = network(task)
    if task.workload.loss == "cross_entropy":
        module.append(nn.Softmax(dim=1))
    module.eval()
    X = torch.from_numpy(task.X)

    @torch.inference_mode()
    def infer() -> torch.Tensor:
        return module(X)

    return infer


if __name__ == "__main__":
    torch.set_num_interop_threads(1)
    serve(TorchTraining, inference, torch.__version__)
