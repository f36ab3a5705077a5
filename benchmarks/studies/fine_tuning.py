"""Which fine-tuning samples made this answer: ten tasks, under new names, taught to a small model.

    python -m benchmarks.studies.fine_tuning --seeds 0 1 2 [--quick] [--decay D] [--layers ...]

A prompt names a task and gives a string of letters, "kwo:abcde>"; the answer is the string
transformed, and a full stop. A GPT of two layers is first trained from a config on ten tasks under
names of its own, once for all seeds. Then it is fine-tuned by LoRA on 90 samples of each task under
new names, drawn by the seed, as language models are taught what a made-up name stands for. The
loss is that of the answer's characters alone: prompts count -100. For each test sample, of a
string drawn anew, the training samples are ranked by influence, one score a sample; no method
knows of the tasks. AUROC of the samples of the same task, and their share among as many as there
are of them at the top, each a mean over the test samples, ten of every task. Beside them what
needs no model: the characters that two prompts share, and chance. Published figures of 1.000 gave
all samples of a task one score, made from that grouping.
"""

import argparse
import copy
import time

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity
from skorch import NeuralNet
from skorch.callbacks import LRScheduler

from skinfluence import InfluenceFunction, InnerProductInfluence, TraceRecorder, TracIn
from skinfluence.influence import DataInf
from skinfluence.nets import CausalLMLoss

LETTERS, LENGTH, NAME = "abcdefghijklmnopqrstuvwxyz", 5, 3
TASKS = {
    "reverse": lambda s: s[::-1],
    "upper case": str.upper,
    "every other upper case": lambda s: "".join(c.upper() if i % 2 else c for i, c in enumerate(s)),
    "a 1 between": "1".join,
    "vowels starred": lambda s: "".join("*" if c in "aeiou" else c for c in s),
    "every letter twice": lambda s: "".join(2 * c for c in s),
    "capital": str.capitalize,
    "ly at the end": lambda s: s + "ly",
    "first letter": lambda s: s[0],
    "repeated": lambda s: s + s,
}
CHARACTERS = {c: i for i, c in enumerate(LETTERS + LETTERS.upper() + "1*:>.", start=1)}
N_POSITIONS = NAME + 1 + LENGTH + 1 + 2 * LENGTH + 1
EARLY = 2


def draw(n, rng):
    return "".join(rng.choice(list(LETTERS), n))


def samples(n_per_task, names, rng):
    """Draw tokens, targets of which prompts are no part, and the number of each sample's task."""
    ids, due, tasks = [], [], []
    for number, (name, task) in enumerate(zip(names, TASKS.values(), strict=True)):
        for _ in range(n_per_task):
            text = draw(LENGTH, rng)
            prompt, answer = f"{name}:{text}>", f"{task(text)}."
            tokens = [CHARACTERS[c] for c in prompt + answer]
            rest = N_POSITIONS - len(tokens)
            ids.append(tokens + [0] * rest)
            due.append([-100] * len(prompt) + tokens[len(prompt) :] + [-100] * rest)
            tasks.append(number)
    ids = np.array(ids)
    X = {"input_ids": ids, "attention_mask": (ids != 0).astype(int)}
    return X, np.array(due), np.array(tasks)


def base(epochs):
    """Train the model that all seeds fine-tune; its tasks have names that no other set uses."""
    from transformers import GPT2Config, GPT2LMHeadModel

    size = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_inner": 128, "n_positions": N_POSITIONS}
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    special = {"bos_token_id": None, "eos_token_id": None}
    config = GPT2Config(vocab_size=len(CHARACTERS) + 1, **size, **dropout, **special)
    rng = np.random.default_rng(1000)
    names = [draw(NAME, rng) for _ in TASKS]
    X, y, _ = samples(1000, names, rng)
    X_new, y_new, _ = samples(20, names, rng)
    net = net_of(lambda: GPT2LMHeadModel(config), epochs, 3e-3, 0.0, batch_size=48)
    steps = epochs * -(-len(y) // 48)
    schedule = {"max_lr": 3e-3, "total_steps": steps, "pct_start": 0.1, "step_every": "batch"}
    net.set_params(callbacks=[LRScheduler(torch.optim.lr_scheduler.OneCycleLR, **schedule)])
    torch.manual_seed(1000)
    net.fit(X, y)
    print(f"The base: {right_answers(net, X_new, y_new):.2f} of new answers right.", flush=True)
    return net.module_


def net_of(make, epochs, rate, decay, batch_size=32):
    return NeuralNet(
        make,
        criterion=CausalLMLoss,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=decay,
        lr=rate,
        batch_size=batch_size,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )


def fine_tuned(model, X, y, seed, epochs, options):
    """Train an adapter of all layers of a copy of the base."""
    from peft import LoraConfig, inject_adapter_in_model

    adapter = LoraConfig(
        r=8, lora_alpha=16, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True
    )

    def adapted():
        return inject_adapter_in_model(adapter, copy.deepcopy(model).requires_grad_(False))

    net = net_of(adapted, epochs, 1e-3, options.decay)
    net.set_params(callbacks=[TraceRecorder(checkpoints=options.checkpoints)])
    torch.manual_seed(seed)
    return net.fit(X, y)


def methods(net, early, seed, options):
    """Name methods around a fine-tuned net, and two of them around one after a few epochs."""
    shared = {"layers": options.layers, "random_state": seed}
    traced = {"reference": "validation", "checkpoints": options.checkpoints, **shared}
    return {
        "TracIn": TracIn(net, **traced),
        "TracIn, normalised": TracIn(net, normalize="gradient", **traced),
        "InnerProduct": InnerProductInfluence(net, **shared),
        "DataInf": InfluenceFunction(net, solver=DataInf(), **shared),
        f"InnerProduct, after {EARLY} epochs": InnerProductInfluence(early, **shared),
        f"DataInf, after {EARLY} epochs": InfluenceFunction(early, solver=DataInf(), **shared),
    }


def right_answers(net, X, y):
    """Give the share of samples whose whole answer the net predicts, each token from the right."""
    net.module_.eval()
    with torch.no_grad():
        logits = net.infer({name: torch.as_tensor(value) for name, value in X.items()}).logits
    hit = (logits[:, :-1].argmax(-1).numpy() == y[:, 1:]) | (y[:, 1:] == -100)
    return hit.all(1).mean()


def shared_characters(X, y, X_test, y_test):
    """Compare the counts of characters of prompts."""
    counts = [
        np.stack(
            [np.bincount(ids[due == -100], minlength=len(CHARACTERS) + 1)[1:] for ids, due in rows]
        )
        for rows in (
            zip(X_test["input_ids"], y_test, strict=True),
            zip(X["input_ids"], y, strict=True),
        )
    ]
    return cosine_similarity(*counts)


def judged(scores, same):
    """Give AUROC, the least of a test sample, and recall of the samples of its task."""
    areas = [roc_auc_score(own, row) for own, row in zip(same, scores, strict=True)]
    first = np.argsort(-scores, axis=1, kind="stable")[:, : same[0].sum()]
    return np.mean(areas), np.min(areas), np.take_along_axis(same, first, 1).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--quick", action="store_true", help="20 samples a task, short trainings")
    parser.add_argument("--layers", nargs="+", default=["*lora_*"], help="names or patterns")
    parser.add_argument("--epochs", type=int, default=16, help="of fine-tuning")
    parser.add_argument("--checkpoints", type=int, default=8)
    parser.add_argument("--decay", type=float, default=0.0, help="weight decay of the adapter")
    options = parser.parse_args()
    n_train, n_test, base_epochs = (20, 2, 3) if options.quick else (90, 10, 6)
    model = base(base_epochs)
    found, right = {}, []
    for seed in options.seeds:
        rng = np.random.default_rng(seed)
        names = [draw(NAME, rng) for _ in TASKS]
        X, y, tasks = samples(n_train, names, rng)
        X_test, y_test, test_tasks = samples(n_test, names, rng)
        same = test_tasks[:, None] == tasks
        net, early = (
            fine_tuned(model, X, y, seed, epochs, options) for epochs in (options.epochs, EARLY)
        )
        sets = (net, X, y), (net, X_test, y_test), (early, X_test, y_test)
        right.append([right_answers(*given) for given in sets])
        print(seed, "right answers", *(f"{share:.2f}" for share in right[-1]), flush=True)
        controls = {
            "characters that prompts share": shared_characters(X, y, X_test, y_test),
            "random": rng.random(same.shape),
        }
        for name, scores in controls.items():
            found.setdefault(name, []).append((*judged(scores, same), 0))
        # one training for all methods
        frozen = FrozenEstimator(net), FrozenEstimator(early)
        for name, method in methods(*frozen, seed, options).items():
            start = time.perf_counter()
            method.fit(X, y, X_test, y_test)
            line = judged(method.influence(X_test, y_test), same)
            found.setdefault(name, []).append((*line, time.perf_counter() - start))
            print(seed, name, *(f"{value:.3f}" for value in found[name][-1]), flush=True)
    of_train, of_test, early_test = np.mean(right, axis=0)
    print(
        f"\nAnswers right: {of_train:.2f} of the training samples, {of_test:.2f} of the test's; "
        f"{early_test:.2f} after {EARLY} epochs.\n"
    )
    print("| method | AUROC | least of a sample | recall | seconds |\n|---|---|---|---|---|")
    for name, lines in found.items():
        area, least, recall, took = np.mean(lines, axis=0)
        print(f"| {name} | {area:.3f} | {least:.3f} | {recall:.3f} | {took:.0f} |")


if __name__ == "__main__":
    main()
