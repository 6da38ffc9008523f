"""PyTorch's side of the bench: Hugging Face's Llama, sdpa, fused AdamW, one optimizer step for each line read.

    step.py --init DIR                                            writes DIR/config.json, model.safetensors, tokens.bin
    step.py --model DIR --sequence 1024 --precision fp32          answers "step", "reset-peak" and "quit" on standard input
    step.py --model DIR --sequence 1024 --precision fp32 --profile      where the time of a step goes
    step.py --model DIR --sequence 32768 --precision bf16 --device cuda --checkpointing --compile      on a GPU

One JSON object a line on standard output: {"ready": true}, then {"seconds", "loss"} for a step and, for quit,
{"peak_rss_bytes", "anonymous_rss_bytes", "baseline_rss_bytes"}: the highest resident memory since the last reset-peak,
what of the present one is not files, and what the process needed with everything imported but no model yet; on a GPU also
"allocated_bytes", the most that tensors held of its memory. fp32 is never TF32.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

MODEL = dict(
    hidden_size=512, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=4, intermediate_size=1536,
    vocab_size=32000, max_position_embeddings=65536, rms_norm_eps=1e-5, use_cache=False,
)  # fmt: skip
TOKENS = 1 << 20
WEIGHT_DECAY = 0.1


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init", metavar="DIR", help="write the model and the tokens, then leave")
    parser.add_argument("--model", metavar="DIR", help="a Hugging Face directory")
    parser.add_argument("--tokens", metavar="FILE", help="uint32 tokens (default: tokens.bin beside the model)")
    parser.add_argument("--sequence", type=int, default=1024)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--clip", type=float, help="clip gradients to this global norm")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--random", action="store_true", help="draw the weights: DIR needs no model.safetensors")
    parser.add_argument("--checkpointing", action="store_true", help="compute each layer again in backward")
    parser.add_argument("--compile", action="store_true", help="torch.compile each layer")
    parser.add_argument("--profile", action="store_true")
    return parser.parse_args()


def write_model(directory):
    """The same bytes every time: random weights in F32, uniformly random tokens."""
    directory.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(LlamaConfig(**MODEL)).to(torch.float32).save_pretrained(directory)
    random = np.random.default_rng(0)
    random.integers(0, MODEL["vocab_size"], TOKENS, dtype=np.uint32).tofile(directory / "tokens.bin")


def status(field):
    """A size from /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"step.py: /proc/self/status has no {field}")


def build_model(options):
    """The model in F32 on its device."""
    if options.random:
        torch.manual_seed(0)
        with torch.device(options.device):
            config = AutoConfig.from_pretrained(options.model, use_cache=False)
            return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32, attn_implementation="sdpa")
    for parameter in model.parameters():
        # A copy of its own: what is loaded may still be the file's pages, which would count as memory twice.
        parameter.data = parameter.data.clone()
    return model.to(options.device)


class Training:
    def __init__(self, options):
        self.options = options
        self.model = model = build_model(options).train()
        if options.checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if options.compile:
            for layer in model.model.layers:
                layer.compile(dynamic=False)
        parameters = list(model.parameters())
        groups = [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.95), eps=1e-8, fused=True)
        self.tokens = np.memmap(options.tokens or Path(options.model) / "tokens.bin", dtype=np.uint32, mode="r")
        self.at = 0

    def step(self):
        sequence = self.options.sequence
        if self.at + sequence > len(self.tokens):
            self.at = 0
        ids = torch.from_numpy(self.tokens[self.at : self.at + sequence].astype(np.int64))[None]
        self.at += sequence
        begin = time.perf_counter()
        device = self.options.device
        ids = ids.to(device)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self.options.precision == "bf16"):
            loss = self.model(input_ids=ids, labels=ids).loss
        loss.backward()
        if self.options.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        return {"loss": loss.item(), "seconds": time.perf_counter() - begin}


# The kinds of a profile: the first whose word is in an operator's name takes its time.
KINDS = {
    "attention": ("scaled_dot_product", "flash_attention", "_fused_sdp"),
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::linear", "mkldnn", "aten::matmul"),
    "loss": ("log_softmax", "nll_loss", "cross_entropy"),
    "optimizer": ("adam", "optimizer"),
    "embedding": ("embedding", "index_"),
    "casts and copies": ("aten::copy_", "aten::to", "_to_copy", "aten::clone", "aten::contiguous"),
    "zeros": ("zero_", "fill_"),
}


def profile(training, steps=3):
    training.step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as record:
        for _ in range(steps):
            training.step()
    shares = {}
    rows = record.key_averages()
    for row in rows:
        name = row.key.lower()
        kind = next((k for k, words in KINDS.items() if any(word in name for word in words)), "elementwise and rest")
        shares[kind] = shares.get(kind, 0.0) + row.self_cpu_time_total
    total = sum(shares.values())
    print(f"{training.options.precision}, {training.options.sequence} tokens: {total / steps / 1e6:.3f} s a step")
    for kind, microseconds in sorted(shares.items(), key=lambda item: -item[1]):
        print(f"  {100 * microseconds / total:5.1f} %  {microseconds / steps / 1e6:7.3f} s  {kind}")
    print(rows.table(sort_by="self_cpu_time_total", row_limit=14, max_name_column_width=50))


def serve(training, baseline):
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        command = line.strip()
        if command == "step":
            answer = training.step()
        elif command == "reset-peak":
            Path("/proc/self/clear_refs").write_text("5")
            if training.options.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            answer = {"reset": True}
        elif command == "quit":
            answer = {
                "peak_rss_bytes": status("VmHWM"), "anonymous_rss_bytes": status("RssAnon"),
                "baseline_rss_bytes": baseline,
            }  # fmt: skip
            if training.options.device == "cuda":
                answer["allocated_bytes"] = torch.cuda.max_memory_allocated()
        else:
            answer = {"error": f'"{command}" is none of step, reset-peak, quit'}
        print(json.dumps(answer), flush=True)
        if command == "quit":
            return


def main():
    options = arguments()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if options.init:
        write_model(Path(options.init))
        return
    if not options.model:
        sys.exit("step.py: --model DIR or --init DIR is needed")
    torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    # What transformers imports only when a model is first built belongs to the baseline too.
    AutoModelForCausalLM.from_config(LlamaConfig(**{**MODEL, "num_hidden_layers": 1, "hidden_size": 64, "vocab_size": 8}))
    baseline = status("VmRSS")
    training = Training(options)
    if options.profile:
        profile(training)
    else:
        serve(training, baseline)


if __name__ == "__main__":
    main()
