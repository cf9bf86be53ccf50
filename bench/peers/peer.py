"""Seconds and peak memory of a training step of transformers with peft, or with SoRA as its authors wrote it."""

import argparse
import json
import math
import re
import resource
import statistics
import time

import peft
import torch
import transformers

SITES = (
    r".*encoder\.layer\.\d+\.(attention\.self\.(query|key|value)(_proj)?|attention\.output\.dense"
    r"|intermediate\.dense|output\.dense)"
)
# BERT's pooler is a part of its encoder.
HEAD = r"(^|\.)(classifier|pooler)\."


class LowRankLinear(torch.nn.Module):
    """A linear with SoRA's branch `scale * B (g * (A x))`, in the authors' form: a module a site."""

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
    """Adam on each gate, then the released threshold, parameter by parameter."""

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


def sora(model):
    """Every site of the model with SoRA's branch; everything but branches and head frozen."""
    for parameter in model.parameters():
        parameter.requires_grad = False
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and re.fullmatch(SITES, name):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, LowRankLinear(module, 8, 16).to(module.weight.device))
    for name, parameter in model.named_parameters():
        if re.search(HEAD, name):
            parameter.requires_grad = True
    return model


def build(method, directory, device):
    model = transformers.AutoModelForSequenceClassification.from_pretrained(directory, num_labels=2)
    # A checkpoint may be in half precision; the precision is autocast's.
    model = model.float().to(device)
    common = dict(task_type="SEQ_CLS", target_modules=SITES, modules_to_save=["classifier", "pooler"], lora_alpha=16)
    if method == "sora":
        return sora(model)
    if method == "lora":
        return peft.get_peft_model(model, peft.LoraConfig(r=8, **common))
    config = peft.AdaLoraConfig(init_r=12, target_r=8, total_step=1000, tinit=0, tfinal=500, **common)
    return peft.get_peft_model(model, config)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=["lora", "adalora", "sora"])
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    torch.manual_seed(0)
    is_cuda = given.device == "cuda"
    model = build(given.method, given.model, given.device).train()
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    gates = [p for name, p in trained if name.endswith(".gate")]
    optimizer = torch.optim.AdamW([p for name, p in trained if not name.endswith(".gate")], lr=1e-3, weight_decay=0.01)
    gate_optimizer = GateOptimizer(gates, 1e-3, 1e-4) if gates else None
    shape = (given.batch, given.length)
    ids = torch.randint(5, 1000, shape, device=given.device)
    mask = torch.ones(shape, dtype=torch.long, device=given.device)
    labels = torch.randint(0, 2, (given.batch,), device=given.device)

    def step(t):
        with torch.autocast(given.device, torch.bfloat16, enabled=given.precision == "bf16"):
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
            if gates:
                loss = loss + 10.0 * sum(gate.abs().sum() for gate in gates) / sum(gate.numel() for gate in gates)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in trained], 1.0)
        optimizer.step()
        if gates:
            gate_optimizer.step()
        if given.method == "adalora":
            model.base_model.update_and_allocate(t)
        optimizer.zero_grad()
        for gate in gates:
            gate.grad = None

    warm, seconds = max(3, given.steps // 4), []
    for t in range(warm + given.steps):
        if t == warm and is_cuda:
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        step(t)
        if is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_reserved() / 2**20 if is_cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": statistics.median(seconds[warm:]), "peak_mib": peak}))


main()
