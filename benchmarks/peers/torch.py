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
from torch import nn

from fastnn import SGD

from . import Inference, Task, Training

VERSION = torch.__version__
torch.set_num_interop_threads(1)

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


class Peer(Training):
    """Batches by index, one optimizer step each."""

    def build(self, task: Task) -> None:
        self.network, loss = network(task), _LOSSES[task.workload.loss]
        self.first = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.X, self.y = torch.from_numpy(task.X), torch.from_numpy(task.y)
        self.loss_of = lambda X, y: loss(self.network(X), y)
        if task.variant == "compile":
            self.loss_of = torch.compile(self.loss_of, dynamic=False)

    def gradient(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        self.network.zero_grad()
        self.loss_of(torch.from_numpy(X), torch.from_numpy(y)).backward()
        return np.concatenate([p.grad.numpy().T.ravel() for p in self.network.parameters()])

    def reset(self) -> None:
        self.network.load_state_dict(self.first)
        rule, kind = self.task.workload.optimizer, torch.optim.SGD
        options = {} if self.task.variant == "eager" else {"fused": True}
        if isinstance(rule, SGD):
            options["momentum"] = rule.momentum
        else:
            kind = torch.optim.Adam
            options |= {"betas": (rule.beta_1, rule.beta_2), "eps": rule.epsilon}
        self.optimizer = kind(self.network.parameters(), lr=rule.learning_rate, **options)

    def epoch(self) -> float:
        X, y, optimizer, loss_of = self.X, self.y, self.optimizer, self.loss_of
        total = torch.zeros(())
        for rows in torch.randperm(len(X)).split(self.task.workload.batch_size):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(X[rows], y[rows])
            loss.backward()
            optimizer.step()
            total.add_(loss.detach(), alpha=len(rows))
        return total.item() / len(X)


def inference(task: Task) -> Inference:
    """A call of the module, with the softmax that the workload has."""
    module, X = network(task), torch.from_numpy(task.X)
    if task.workload.loss == "cross_entropy":
        module.append(nn.Softmax(dim=1))
    module.eval()
    return torch.inference_mode()(lambda: module(X))
