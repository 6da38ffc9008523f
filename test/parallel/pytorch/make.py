"""Writes, for each case, a small model, its tokens, and the loss and every gradient of one step of PyTorch on one rank.

    /opt/ithaca-oracle/bin/python test/parallel/pytorch/make.py      # test/golden/make.py says how to get it

Each case is a folder: model/ (a Hugging Face directory), tokens.bin with tokens.docs.bin where there are documents,
step.json (what to put in config.yaml, the loss, the norm of the gradient, the number of labels) and
gradients.safetensors: of the mean loss over the labelled tokens of all samples, by parameter, before clipping.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, MistralConfig

HERE = Path(__file__).resolve().parent
SAMPLES = 4
VOCABULARY = 61
IGNORED = -100

# query and key heads, tokens of a sample, mean tokens of a document (None: samples are documents), sliding window
CASES = {
    "mha": dict(heads=(4, 4), length=24, document=None, window=None),
    "gqa-6-3": dict(heads=(6, 3), length=25, document=9, window=None),
    "gqa-8-2": dict(heads=(8, 2), length=23, document=None, window=5),
    "mqa": dict(heads=(5, 1), length=24, document=10, window=4),
    "heads-28-4": dict(heads=(28, 4), length=25, document=None, window=None),
}


def write_tokens(folder, length, mean, random):
    count = SAMPLES * length
    random.integers(0, VOCABULARY, count, dtype=np.uint32).tofile(folder / "tokens.bin")
    if mean is None:
        return
    # The last sample is documents of one token but for its first two tokens: ranks of it have no label.
    ends = np.cumsum(random.geometric(1 / mean, count))
    starts = np.concatenate(([0], ends[ends < count - length], np.arange(count - length, count)))
    starts = starts[starts != count - length + 1]
    np.unique(starts).astype(np.uint64).tofile(folder / "tokens.docs.bin")


def read_samples(folder, length):
    """Token ids, labels (the next token of the document), positions and document numbers, each [SAMPLES, length]."""
    tokens = np.fromfile(folder / "tokens.bin", dtype=np.uint32).astype(np.int64).reshape(SAMPLES, length)
    document = np.zeros_like(tokens)
    if (folder / "tokens.docs.bin").exists():
        starts = np.fromfile(folder / "tokens.docs.bin", dtype=np.uint64).astype(np.int64)
        document = np.searchsorted(starts, np.arange(tokens.size), side="right").reshape(SAMPLES, length)
    same = document[:, 1:] == document[:, :-1]
    labels = np.full_like(tokens, IGNORED)
    labels[:, :-1] = np.where(same, tokens[:, 1:], IGNORED)
    positions = np.zeros_like(tokens)
    for t in range(1, length):
        positions[:, t] = np.where(same[:, t - 1], positions[:, t - 1] + 1, 0)
    return [torch.from_numpy(array) for array in (tokens, labels, positions, document)]


def mask_of(document, window):
    """The additive mask [SAMPLES, 1, length, length]: causal, within a document, at most `window` keys each."""
    at = torch.arange(document.shape[1])
    distance = at[:, None] - at[None, :]
    visible = (distance >= 0) & (document[:, :, None] == document[:, None, :])
    if window is not None:
        visible &= distance < window
    return torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)[:, None]


def make_model(folder, heads, window, generator):
    """Weights wide enough for attention to be far from uniform; the norms' are random too."""
    model = AutoModelForCausalLM.from_config(
        MistralConfig(
            vocab_size=VOCABULARY, hidden_size=24, num_hidden_layers=2, num_attention_heads=heads[0],
            num_key_value_heads=heads[1], head_dim=4, intermediate_size=40, sliding_window=window, use_cache=False,
            rms_norm_eps=1e-5, max_position_embeddings=64, rope_parameters=dict(rope_type="default", rope_theta=100.0),
        ),
        attn_implementation="eager",
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            middle, spread = (1.0, 0.2) if parameter.dim() < 2 else (0.0, 0.3)
            parameter.copy_(middle + spread * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    for file in folder.iterdir():
        file.chmod(0o644)
    return model.train()


def make(name, seed, heads, length, document, window):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write_tokens(folder, length, document, np.random.default_rng(seed))
    model = make_model(folder / "model", heads, window, torch.Generator().manual_seed(seed))
    tokens, labels, positions, documents = read_samples(folder, length)
    logits = model(input_ids=tokens, position_ids=positions, attention_mask=mask_of(documents, window)).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    norm = torch.linalg.vector_norm(torch.stack([gradient.norm() for gradient in gradients.values()]))
    save_file(gradients, folder / "gradients.safetensors")
    step = {
        "about": f"{heads[0]}/{heads[1]} heads, {length} tokens, "
        + ("packed documents" if document else "one document")
        + (f", a sliding window of {window}" if window else ""),
        "sequence_length": length, "samples": SAMPLES, "loss": loss.item(), "grad_norm": norm.item(),
        "tokens": int((labels != IGNORED).sum()),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }  # fmt: skip
    (folder / "step.json").write_text(json.dumps(step, indent=1) + "\n")
    print(name, step["about"], step["loss"], step["grad_norm"], step["tokens"])


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for number, (case_name, case) in enumerate(CASES.items()):
        make(case_name, 1 + number, **case)
