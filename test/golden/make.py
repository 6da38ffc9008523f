"""Writes the goldens: five training steps of Hugging Face transformers on PyTorch, to compare ours with.

    python3 -m venv /opt/ithaca-oracle
    /opt/ithaca-oracle/bin/pip install "torch==2.13.0+cpu" "transformers==5.18.0" safetensors numpy
    /opt/ithaca-oracle/bin/python test/golden/make.py [CASE ...]      # no case: all of them, under a minute

What the files hold, and how closely they should be met, is in README.md beside this file.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import safetensors
import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

HERE = Path(__file__).resolve().parent
SEQUENCE = 770
STEPS = 5
VOCABULARY = 1003
IGNORED = -100

# Sizes that are multiples of nothing convenient: a kernel that only works on whole vectors fails here.
SIZES = dict(
    vocab_size=VOCABULARY, hidden_size=96, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=3,
    intermediate_size=200, head_dim=16, max_position_embeddings=2048, use_cache=False,
)
OPTIMIZER = dict(
    learning_rate=1e-3, lr_scheduler_type="constant", weight_decay=0.1,
    adam_beta1=0.9, adam_beta2=0.95, adam_epsilon=1e-8, max_grad_norm=1.0,
)
LLAMA3_ROPE = dict(
    rope_type="llama3", rope_theta=10000.0, factor=8.0,
    low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=128,
)  # fmt: skip


def rope(theta):
    return dict(rope_type="default", rope_theta=theta)


# config: the model is made and saved here, in `dtype`; without one, `model` names the directory of another case.
# seed: chosen among a few for weights whose training depends least on rounding (README.md, "noise").
# final: the trained parameters to store, by the beginnings of their names.
ALL = ("",)
PART = ("model.layers.1.", "model.norm.")
CASES = {
    "llama": dict(
        about="grouped-query attention, weights saved as F32 in one file",
        config=LlamaConfig(**SIZES, rms_norm_eps=1e-5, rope_parameters=rope(10000.0)), seed=5, dtype=torch.float32,
        final=ALL,
    ),
    "mistral": dict(
        about="a sliding window of 100 tokens, shorter than the sequence",
        config=MistralConfig(**SIZES, sliding_window=100, rms_norm_eps=1e-6, rope_parameters=rope(10000.0)), seed=4,
        final=ALL,
    ),
    "qwen2": dict(
        about="biases on the q, k and v projections",
        config=Qwen2Config(**SIZES, rms_norm_eps=1e-6, rope_parameters=rope(1e6)), seed=3, final=ALL,
    ),
    "qwen3": dict(
        about="a norm per head on q and k",
        config=Qwen3Config(**SIZES, rms_norm_eps=1e-6, rope_parameters=rope(1e6)), seed=4, final=ALL,
    ),
    "llama-tied": dict(
        about="tied embeddings, Llama-3 rope scaling, heads wider than hidden_size / heads, a config.json as "
        "transformers 4 wrote it (rope_theta, rope_scaling, torch_dtype)",
        config=LlamaConfig(**{**SIZES, "head_dim": 24}, tie_word_embeddings=True, rope_parameters=LLAMA3_ROPE),
        seed=1, old_config=True, final=(*PART, "model.embed_tokens."),
    ),
    "sharded": dict(
        about="weights spread over several safetensors files with an index; the values are llama's, rounded to F16",
        config=LlamaConfig(**SIZES, rms_norm_eps=1e-5, rope_parameters=rope(10000.0)), seed=5, dtype=torch.float16,
        shard="300KB", final=PART,
    ),
    "packed": dict(about="several documents in a sample", model="llama", documents=True, final=PART),
    "packed-window": dict(
        about="several documents in a sample and a sliding window", model="mistral", documents=True, final=PART
    ),
    "accumulation": dict(
        about="micro batches of 2, 3 of them a step, with unequal numbers of labels", model="llama", documents=True,
        batch=2, accumulation=3, final=PART,
    ),
}  # fmt: skip


def write_tokens(path, seed, documents):
    """Tokens with something to learn: mostly a fixed successor of the last token, otherwise drawn with a long tail."""
    random = np.random.default_rng(seed)
    count = 6 * STEPS * SEQUENCE + 17
    successor = random.permutation(VOCABULARY)
    drawn = (VOCABULARY * random.random(count) ** 3).astype(np.int64)
    follow = random.random(count) < 0.6
    tokens = np.empty(count, dtype=np.uint32)
    tokens[0] = VOCABULARY - 1
    for i in range(1, count):
        tokens[i] = successor[tokens[i - 1]] if follow[i] else drawn[i]
    path.mkdir(parents=True, exist_ok=True)
    tokens.tofile(path / "tokens.bin")
    if documents:
        # Includes documents of one token, longer than a sample, and one that starts exactly with a sample.
        lengths = np.minimum(random.geometric(1 / 150, count), 900)
        lengths[5:8] = 1
        lengths[20] = 1700
        starts = np.unique(np.concatenate(([0, 2 * SEQUENCE], np.cumsum(lengths))))
        starts[starts < count].astype(np.uint64).tofile(path / "tokens.docs.bin")


def samples(path, first, count):
    """Token ids, shifted labels, positions and document numbers of `count` samples, each [count, SEQUENCE]."""
    begin, end = first * SEQUENCE, (first + count) * SEQUENCE
    tokens = np.fromfile(path / "tokens.bin", dtype=np.uint32)[begin:end].astype(np.int64).reshape(count, SEQUENCE)
    document = np.zeros((count, SEQUENCE), dtype=np.int64)
    if (path / "tokens.docs.bin").exists():
        starts = np.fromfile(path / "tokens.docs.bin", dtype=np.uint64).astype(np.int64)
        document = np.searchsorted(starts, np.arange(begin, end), side="right").reshape(count, SEQUENCE)
        document -= document[:, :1]
    labels = np.full_like(tokens, IGNORED)
    labels[:, :-1] = np.where(document[:, 1:] == document[:, :-1], tokens[:, 1:], IGNORED)
    at = np.arange(SEQUENCE)
    opens = np.concatenate((np.ones((count, 1), bool), document[:, 1:] != document[:, :-1]), axis=1)
    positions = at - np.maximum.accumulate(np.where(opens, at, 0), axis=1)
    return [torch.from_numpy(array) for array in (tokens, labels, positions, document)]


def mask_of(document, window, dtype):
    """The additive mask [batch, 1, SEQUENCE, SEQUENCE]: causal, within a document, at most `window` keys each."""
    at = torch.arange(SEQUENCE)
    distance = at[:, None] - at[None, :]
    visible = (distance >= 0) & (document[:, :, None] == document[:, None, :])
    if window is not None:
        visible &= distance < window
    return torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)[:, None]


def save_model(name, case):
    """Random weights, the norms' and biases' included, so that every gradient is of a size that matters."""
    directory = HERE / name / "model"
    shutil.rmtree(directory, ignore_errors=True)
    generator = torch.Generator().manual_seed(case["seed"])
    model = AutoModelForCausalLM.from_config(case["config"])
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            spread = 0.05 if parameter.dim() >= 2 else 0.2
            middle = 1.0 if parameter_name.endswith("norm.weight") else 0.0
            parameter.copy_(middle + spread * torch.randn(parameter.shape, generator=generator))
    model.to(case.get("dtype", torch.bfloat16)).save_pretrained(directory, max_shard_size=case.get("shard", "5GB"))
    (directory / "generation_config.json").unlink(missing_ok=True)
    for file in directory.iterdir():
        file.chmod(0o644)
    if case.get("old_config"):
        write_old_config(directory / "config.json")


def write_old_config(path):
    config = json.loads(path.read_text())
    scaling = config.pop("rope_parameters")
    config["rope_theta"] = scaling.pop("rope_theta")
    config["rope_scaling"] = scaling
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.45.0"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    assert LlamaConfig.from_pretrained(path.parent).rope_parameters == LLAMA3_ROPE


def train(model_path, tokens_path, batch, accumulation, attention, autocast=False):
    """Trains STEPS steps: "eager" attention gets a mask built here, "sdpa" keeps transformers' own unless packed."""
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32, attn_implementation=attention)
    model.train()
    parameters = dict(model.named_parameters())
    matrices = [p for p in parameters.values() if p.dim() >= 2]
    vectors = [p for p in parameters.values() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": OPTIMIZER["weight_decay"]}, {"params": vectors, "weight_decay": 0.0}],
        lr=OPTIMIZER["learning_rate"], betas=(OPTIMIZER["adam_beta1"], OPTIMIZER["adam_beta2"]),
        eps=OPTIMIZER["adam_epsilon"],
    )  # fmt: skip
    packed = (tokens_path / "tokens.docs.bin").exists()
    record = {"losses": [], "grad_norms": [], "learning_rates": [], "tokens": []}
    gradient_norms = {}
    for step in range(STEPS):
        micro_batches = [samples(tokens_path, (step * accumulation + m) * batch, batch) for m in range(accumulation)]
        labelled = sum(int((labels != IGNORED).sum()) for _, labels, _, _ in micro_batches)
        total = 0.0
        for tokens, labels, positions, document in micro_batches:
            mask = None
            if packed or attention == "eager":
                mask = mask_of(document, getattr(model.config, "sliding_window", None), torch.float32)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                # num_items_in_batch: the sum is divided by the labels of the whole step, not of this micro batch.
                loss = model(
                    input_ids=tokens, position_ids=positions, attention_mask=mask, labels=labels, shift_labels=labels,
                    num_items_in_batch=labelled,
                ).loss  # fmt: skip
            loss.backward()
            total += loss.item()
        if step == 0:
            gradient_norms = {name: p.grad.norm().item() for name, p in parameters.items()}
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIMIZER["max_grad_norm"])
        record["losses"].append(total)
        record["grad_norms"].append(norm.item())
        record["learning_rates"].append(optimizer.param_groups[0]["lr"])
        record["tokens"].append(labelled)
        optimizer.step()
        optimizer.zero_grad()
    return record, gradient_norms, {name: p.detach().clone() for name, p in parameters.items()}


def apart(a, b):
    """The largest relative difference of two lists."""
    return max(abs(x - y) / abs(y) for x, y in zip(a, b))


def farthest(a, b):
    """The largest absolute difference of two sets of weights."""
    return max((a[name] - b[name]).abs().max().item() for name in b)


def make(name, case):
    directory = HERE / name
    directory.mkdir(exist_ok=True)
    if "config" in case:
        save_model(name, case)
    model_path = HERE / case.get("model", name) / "model"
    tokens_path = HERE / "packed" if case.get("documents") else HERE
    run = (model_path, tokens_path, case.get("batch", 1), case.get("accumulation", 1))
    torch.set_num_threads(2)
    fp32, gradient_norms, final = train(*run, "sdpa")
    bf16, _, bf16_final = train(*run, "sdpa", autocast=True)
    bf16_eager, _, _ = train(*run, "eager", autocast=True)
    # The same mathematics in other orders of rounding: how far apart right answers lie.
    others = []
    for threads, attention in ((2, "eager"), (1, "eager"), (1, "sdpa")):
        torch.set_num_threads(threads)
        others.append(train(*run, attention))
    stored = {name: weight for name, weight in final.items() if name.startswith(case["final"])}
    save_file(stored, directory / "final.safetensors")
    golden = {
        "case": name,
        "about": case["about"],
        "model": os.path.relpath(model_path, directory),
        "tokens": os.path.relpath(tokens_path / "tokens.bin", directory),
        "config": {
            "sequence_length": SEQUENCE, "micro_batch_size": run[2], "gradient_accumulation_steps": run[3],
            "max_steps": STEPS, **OPTIMIZER,
        },
        "fp32": fp32,
        "bf16": {"losses": bf16["losses"], "grad_norms": bf16["grad_norms"]},
        "gradient_norms": gradient_norms,
        "noise": {
            "loss": max(apart(record["losses"], fp32["losses"]) for record, _, _ in others),
            "grad_norm": max(apart(record["grad_norms"], fp32["grad_norms"]) for record, _, _ in others),
            "final": max(farthest(weights, stored) for _, _, weights in others),
            "bf16_loss": max(apart(record["losses"], fp32["losses"]) for record in (bf16, bf16_eager)),
            "bf16_grad_norm": max(apart(record["grad_norms"], fp32["grad_norms"]) for record in (bf16, bf16_eager)),
            "bf16_final": farthest(bf16_final, stored),
        },
        "versions": {
            "torch": torch.__version__, "transformers": transformers.__version__,
            "safetensors": safetensors.__version__, "numpy": np.__version__,
            "cpu": torch.backends.cpu.get_cpu_capability(),
        },
    }  # fmt: skip
    (directory / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")
    size = sum(f.stat().st_size for f in directory.rglob("*") if f.is_file())
    losses = " ".join(f"{x:.5f}" for x in fp32["losses"])
    norms = " ".join(f"{x:.3f}" for x in fp32["grad_norms"])
    noise = " ".join(f"{k} {v:.1e}" for k, v in golden["noise"].items())
    print(f"{name:14} {size / 1e6:5.2f} MB  losses {losses}  grad_norms {norms}\n{'':14} apart: {noise}", flush=True)


def write_schedules():
    """The learning rates of the first 20 steps under Hugging Face's schedules, as fractions of learning_rate."""
    kinds = {
        "constant": lambda o, w, n: transformers.get_constant_schedule_with_warmup(o, w),
        "linear": transformers.get_linear_schedule_with_warmup,
        "cosine": transformers.get_cosine_schedule_with_warmup,
    }
    rows = []
    for kind, make_schedule in kinds.items():
        for warmup in (0, 4):
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
            schedule = make_schedule(optimizer, warmup, 20)
            rates = []
            for _ in range(20):
                rates.append(schedule.get_last_lr()[0])
                optimizer.step()
                schedule.step()
            rows.append({"lr_scheduler_type": kind, "warmup_steps": warmup, "max_steps": 20, "fractions": rates})
    (HERE / "schedules.json").write_text(json.dumps(rows, indent=1) + "\n")


def main():
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.use_deterministic_algorithms(True)
    chosen = sys.argv[1:] or list(CASES)
    for name in chosen:
        if name not in CASES:
            sys.exit(f'make.py: no case "{name}"; choose from {", ".join(CASES)}')
    write_tokens(HERE, seed=1, documents=False)
    write_tokens(HERE / "packed", seed=2, documents=True)
    write_schedules()
    for name in chosen:
        make(name, CASES[name])
    print(f"{sum(f.stat().st_size for f in HERE.rglob('*') if f.is_file()) / 1e6:.2f} MB in all")


if __name__ == "__main__":
    main()
