"""SoRA as its authors wrote it: a module a site, and the gates' optimiser parameter by parameter."""

import math
import re

import torch


class LowRankLinear(torch.nn.Module):
    """A linear with SoRA's branch `scale * B (g * (A x))`."""

    def __init__(self, linear, r, alpha):
        super().__init__()
        self.linear, self.scale = linear, alpha / r
        self.lora_A = torch.nn.Parameter(torch.empty(r, linear.in_features))
        self.lora_B = torch.nn.Parameter(torch.zeros(linear.out_features, r))
        self.gate = torch.nn.Parameter(torch.randn(1, r))
        torch.nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x):
        return self.linear(x) + ((x @ self.lora_A.T).mul(self.gate) @ self.lora_B.T) * self.scale


class GateOptimizer(torch.optim.Optimizer):
    """Adam on each gate, then the released threshold."""

    def __init__(self, gates, lr, xi):
        super().__init__(gates, dict(lr=lr, xi=xi))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state.update(step=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
                state["step"] += 1
                state["m"].mul_(0.9).add_(p.grad, alpha=0.1)
                state["v"].mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
                size = group["lr"] * math.sqrt(1 - 0.999 ** state["step"]) / (1 - 0.9 ** state["step"])
                p.addcdiv_(state["m"], state["v"].sqrt().add_(1e-6), value=-size)
                xi = group["xi"]
                p[p > xi] -= xi
                p[p < -xi] += xi
                p[p.abs() < xi] = 0.0


def with_branches(model, sites, head):
    """The model with SoRA's branch at every linear whose name matches `sites`; only branches and `head` are trained."""
    for parameter in model.parameters():
        parameter.requires_grad = False
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and re.fullmatch(sites, name):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, LowRankLinear(module, 8, 16).to(module.weight.device))
    for name, parameter in model.named_parameters():
        if re.search(head, name):
            parameter.requires_grad = True
    return model


def gates(model):
    return [p for name, p in model.named_parameters() if name.endswith(".gate")]


def penalty(found):
    """10 times the mean |g|."""
    return 10.0 * sum(gate.abs().sum() for gate in found) / sum(gate.numel() for gate in found)
