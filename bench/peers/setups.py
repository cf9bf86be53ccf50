"""The set-ups of a peer: attention, compilation, and the training step made of them.

`eager` is transformers with PEFT as it comes. Every other set-up is what a user who wants speed adds to it: AdamW's fused
form, the kind of problem said in the configuration (without it DeBERTa's loss waits for the labels in each step, and the
compiler stops there), in bf16 also frozen weights in bf16 (autocast then has none to cast), and its own attention or
`torch.compile`.
"""

import dataclasses
import typing

import peft
import torch
import transformers

import sora

SITES = (
    r".*encoder\.layer\.\d+\.(attention\.self\.(query|key|value)(_proj)?|attention\.output\.dense"
    r"|intermediate\.dense|output\.dense)"
)
# BERT's pooler is a part of its encoder.
HEAD = r"(^|\.)(classifier|pooler)\."


def plain(directory, **options):
    return transformers.AutoModelForSequenceClassification.from_pretrained(directory, num_labels=2, **options)


def flashdeberta(directory, **options):
    """flashdeberta's own model class. Its attention has no dropout."""
    from flashdeberta import FlashDebertaV2ForSequenceClassification

    return FlashDebertaV2ForSequenceClassification.from_pretrained(directory, num_labels=2, **options)


def disentangled_flash(directory, **options):
    """disentangled-flash's training encoder in transformers' model.

    As installed it multiplies by one matrix of the three weights, which leaves out what an adapter adds to query, key and
    value. Here each projection is called, so that the method trained is the same.
    """
    import disentangled_flash as package

    package.TritonTrainingDisentangledSelfAttention._project_qkv = projections
    # Its kernels are taken only where the weights are on the GPU.
    model = plain(directory, **options).cuda()
    encoder = package.optimize_deberta_training(model.deberta, backend="triton").encoder
    if getattr(encoder, "backend", None) != "triton":
        raise RuntimeError("disentangled-flash left transformers' attention in place")
    return model


def projections(attention, hidden_states):
    return tuple(linear(hidden_states) for linear in (attention.query_proj, attention.key_proj, attention.value_proj))


@dataclasses.dataclass(frozen=True)
class Setup:
    load: typing.Callable = plain
    # torch.compile's mode; None: not compiled.
    mode: str | None = None
    is_tuned: bool = True


SETUPS = {
    "eager": Setup(is_tuned=False),
    "compile": Setup(mode="default"),
    # The same with CUDA graphs.
    "compile-graphs": Setup(mode="reduce-overhead"),
    "disentangled-flash": Setup(load=disentangled_flash),
    "disentangled-flash-compile": Setup(load=disentangled_flash, mode="default"),
    "flashdeberta": Setup(load=flashdeberta),
}


def with_adapters(model, method):
    common = dict(task_type="SEQ_CLS", target_modules=SITES, modules_to_save=["classifier", "pooler"], lora_alpha=16)
    if method == "sora":
        return sora.with_branches(model, SITES, HEAD)
    if method == "lora":
        return peft.get_peft_model(model, peft.LoraConfig(r=8, **common))
    config = peft.AdaLoraConfig(init_r=12, target_r=8, total_step=1000, tinit=0, tfinal=500, **common)
    return peft.get_peft_model(model, config)


def orthogonality(model):
    """AdaLoRA's regulariser as in PEFT's forward, which sets `requires_grad` on the way, where the compiler stops."""
    norms = []
    for name, p in model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            product = p @ p.T if "lora_A" in name else p.T @ p
            norms.append(torch.norm(product - torch.eye(len(product), dtype=product.dtype, device=p.device), p="fro"))
    return model.peft_config["default"].orth_reg_weight * sum(norms) / len(norms)


def cast_frozen(model):
    """Frozen weights of linears and embeddings in bf16."""
    for module in model.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Embedding)) and not module.weight.requires_grad:
            module.to(torch.bfloat16)


class Run:
    """A model in training: its method, batch and optimisers."""

    def __init__(self, given):
        setup = SETUPS[given["setup"]]
        torch.manual_seed(0)
        self.device, self.method, self.is_bf16 = given["device"], given["method"], given["precision"] == "bf16"
        problem = {"problem_type": "single_label_classification"} if setup.is_tuned else {}
        # A checkpoint may be in half precision; the precision is autocast's.
        model = setup.load(given["model"], **problem).float().to(self.device)
        self.model = with_adapters(model, self.method).train()
        if setup.is_tuned and self.is_bf16:
            cast_frozen(self.model)
        self.gates = sora.gates(self.model)
        self.trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        others = [p for name, p in self.trained.items() if not name.endswith(".gate")]
        fused = {"fused": True} if setup.is_tuned else {}
        self.optimizer = torch.optim.AdamW(others, lr=1e-3, weight_decay=0.01, **fused)
        self.gate_optimizer = sora.GateOptimizer(self.gates, 1e-3, 1e-4) if self.gates else None
        self.is_compiled = setup.mode is not None
        self.loss = torch.compile(self.forward, mode=setup.mode, dynamic=False) if self.is_compiled else self.forward
        shape = (given["batch"], given["length"])
        ids = torch.randint(5, 1000, shape, device=self.device)
        labels = torch.randint(0, 2, shape[:1], device=self.device)
        self.batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
        self.t = 0

    def forward(self, batch):
        with torch.autocast(self.device, torch.bfloat16, enabled=self.is_bf16):
            if self.method == "adalora" and self.is_compiled:
                return self.model.base_model.model(**batch).loss + orthogonality(self.model)
            loss = self.model(**batch).loss
            return loss + sora.penalty(self.gates) if self.gates else loss

    def step(self):
        torch.compiler.cudagraph_mark_step_begin()
        self.loss(self.batch).backward()
        torch.nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimizer.step()
        if self.gates:
            self.gate_optimizer.step()
        if self.method == "adalora":
            self.model.base_model.update_and_allocate(self.t)
        if self.t == 0:
            self.check()
        self.optimizer.zero_grad()
        for gate in self.gates:
            gate.grad = None
        self.t += 1

    def check(self):
        """Refuses a set-up that does not train the whole method."""
        missing = [name for name, p in self.trained.items() if p.grad is None]
        if missing:
            raise RuntimeError(f"{len(missing)} trained parameters get no gradient, e.g. {missing[0]}")
