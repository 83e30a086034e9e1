"""The released generator once more, written from its description with plain tensors and loops, in the released names.

`tensors` draws weights of a layout, `logits` evaluates them without a cache, `kept` what top-k and top-p leave.
"""

import math

import torch

SMALL = {
    "attn_dropout_p": 0.0,
    "class_dropout_prob": 0.1,
    "cls_token_num": 1,
    "dim": 32,
    "drop_path_rate": 0.0,
    "ffn_dim_multiplier": None,
    "ffn_dropout_p": 0.1,
    "frame_prediction": False,
    "initializer_range": 0.02,
    "max_batch_size": 32,
    "max_seq_len": 12,
    "model_type": "class_cond",
    "multiple_of": 16,
    "n_head": 4,
    "n_kv_head": None,
    "n_layer": 2,
    "norm_eps": 1e-5,
    "num_classes": 5,
    "resid_dropout_p": 0.1,
    "rope_base": 10000,
    "token_dropout_p": 0.1,
    "use_fixed_pe": False,
    "vocab_size": 24,
}
FRAMES = {**SMALL, "frame_prediction": True, "cls_token_num": 13}
RELEASED = {**SMALL, "dim": 1280, "n_layer": 30, "n_head": 20, "multiple_of": 256, "max_seq_len": 1024}
RELEASED |= {"num_classes": 101, "vocab_size": 8192}
RELEASED_FRAMES = {**RELEASED, "frame_prediction": True, "cls_token_num": 1025}


def shapes(config):
    """The tensors of the released layout by name."""
    dim, size, kv = config["dim"], config["vocab_size"], config["n_kv_head"] or config["n_head"]
    hidden = int(int(8 * dim / 3) * (config["ffn_dim_multiplier"] or 1))
    hidden = math.ceil(hidden / config["multiple_of"]) * config["multiple_of"]
    head = dim // config["n_head"]
    found = {"abs_pe": (1, config["max_seq_len"] + config["cls_token_num"] - 1, dim)}
    if not config["frame_prediction"]:
        found["cls_embedding.embedding_table.weight"] = (config["num_classes"] + 1, dim)
    found["tok_embeddings.weight"] = (size + config["frame_prediction"], dim)
    for i in range(config["n_layer"]):
        found[f"layers.{i}.attention.wqkv.weight"] = ((config["n_head"] + 2 * kv) * head, dim)
        found[f"layers.{i}.attention.wo.weight"] = (dim, dim)
        found[f"layers.{i}.feed_forward.w1.weight"] = (hidden, dim)
        found[f"layers.{i}.feed_forward.w3.weight"] = (hidden, dim)
        found[f"layers.{i}.feed_forward.w2.weight"] = (dim, hidden)
        found[f"layers.{i}.attention_norm.weight"] = (dim,)
        found[f"layers.{i}.ffn_norm.weight"] = (dim,)
    return {**found, "norm.weight": (dim,), "output.weight": (size, dim)}


def tensors(config, seed=0):
    """Weights large enough for logits to differ clearly."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator) * (0.3 if len(shape) > 1 else 0.1) + (len(shape) == 1)
        for name, shape in shapes(config).items()
    }


def logits(weights, config, ids, condition):
    """What the ids (T,) of one item get, (T, V), in float64; the condition is a label, or a list of ids."""
    weights = {name: tensor.double() for name, tensor in weights.items()}
    table = weights["tok_embeddings.weight"]
    if config["frame_prediction"]:
        rows = [table[i] for i in condition] + [table[config["vocab_size"]]]
    else:
        label = condition if condition >= 0 else config["num_classes"]
        rows = [weights["cls_embedding.embedding_table.weight"][label]]
    first = len(rows) - 1
    rows += [table[i] for i in ids[:-1]]
    x = torch.stack(rows) + weights["abs_pe"][0, : len(rows)]

    def rms(x, weight):
        return x / (x.square().mean(-1, keepdim=True) + config["norm_eps"]).sqrt() * weight

    heads, head = config["n_head"], config["dim"] // config["n_head"]
    kv = config["n_kv_head"] or heads
    for i in range(config["n_layer"]):
        part = f"layers.{i}."
        fused = rms(x, weights[part + "attention_norm.weight"]) @ weights[part + "attention.wqkv.weight"].T
        q, k, v = fused.split([heads * head, kv * head, kv * head], 1)
        mixed = torch.zeros_like(x)
        for h in range(heads):
            mine, theirs = slice(h * head, (h + 1) * head), h * kv // heads
            shared = slice(theirs * head, (theirs + 1) * head)
            for t in range(len(x)):
                scores = (k[: t + 1, shared] @ q[t, mine]) / math.sqrt(head)
                mixed[t, mine] = scores.softmax(0) @ v[: t + 1, shared]
        x = x + mixed @ weights[part + "attention.wo.weight"].T
        y = rms(x, weights[part + "ffn_norm.weight"])
        gate = y @ weights[part + "feed_forward.w1.weight"].T
        up = y @ weights[part + "feed_forward.w3.weight"].T
        x = x + (gate * gate.sigmoid() * up) @ weights[part + "feed_forward.w2.weight"].T
    return (rms(x, weights["norm.weight"]) @ weights["output.weight"].T)[first:]


def kept(logits, temperature=1.0, top_k=None, top_p=None):
    """The probabilities (V,) of ids after top-k and top-p, by going through them from the likeliest on."""
    scaled = [value / temperature for value in logits.tolist()]
    order = sorted(range(len(scaled)), key=lambda i: -scaled[i])
    if top_k is not None:
        least = scaled[order[min(top_k, len(order)) - 1]]
        order = [i for i in order if scaled[i] >= least]
    masses = [math.exp(scaled[i]) for i in order]
    total, mass, chosen = sum(masses), 0.0, []
    for i, each in zip(order, masses, strict=True):
        chosen.append(i)
        mass += each / total
        if top_p is not None and mass > top_p:
            break
    whole = sum(math.exp(scaled[i]) for i in chosen)
    return [math.exp(scaled[i]) / whole if i in chosen else 0.0 for i in range(len(scaled))]
