"""Which fine-tuning samples made this answer: ten tasks, under new names, taught to a small model.

    python -m benchmarks.studies.fine_tuning --seeds 1 2 3 [--quick] [--form named] [--loss answers]

A GPT of two layers is first trained from a config on ten tasks under names of its own, once for
all seeds. Then it is fine-tuned by LoRA on 90 samples of each task under new names, drawn by the
seed, as language models are taught what a made-up name stands for. As in the published experiment,
a sample is a name, the task in words, a string, and the string transformed; the loss is of all its
characters, and ten epochs are trained:

    ^kwo: every letter twice
    abcde -> aabbccddee.

``--form named`` leaves the words out, "kwo:abcde>aabbccddee.", so that three letters are all that
tells the task; ``--loss answers`` counts the answer's characters alone. For each test sample, of a
string drawn anew, the training samples are ranked by influence, one score a sample; no method
knows of the tasks. AUROC of the samples of the same task, and their share among as many as there
are of them at the top, each a mean over the test samples, ten of every task. Beside them what
needs no model: the characters that two prompts share, and chance. The 1.000 published for outlier
detectors gave all samples of a task one score, made from that grouping; that of DataInf did not.
What was chosen here, the epochs of both trainings, was chosen on seed 0.
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
# What a sample reads, and which of its characters the loss is of.
FORMS = {
    "stated": lambda name, title, text: f"^{name}: {title}\n{text} -> ",
    "named": lambda name, title, text: f"{name}:{text}>",
}
CHARACTERS = {c: i for i, c in enumerate(LETTERS + LETTERS.upper() + "1*:>. \n-^", start=1)}
ANSWER = 2 * LENGTH + 1


def draw(n, rng):
    return "".join(rng.choice(list(LETTERS), n))


def samples(n_per_task, names, rng, options):
    """Draw tokens, targets, each sample's task, and how many of its tokens are its prompt's."""
    form = FORMS[options.form]
    n_positions = max(len(form(NAME * "a", title, LENGTH * "a")) for title in TASKS) + ANSWER
    ids, due, tasks, lengths = [], [], [], []
    for number, (name, (title, task)) in enumerate(zip(names, TASKS.items(), strict=True)):
        for _ in range(n_per_task):
            text = draw(LENGTH, rng)
            prompt, answer = form(name, title, text), f"{task(text)}."
            tokens = [CHARACTERS[c] for c in prompt + answer]
            rest = n_positions - len(tokens)
            n_silent = len(prompt) if options.loss == "answers" else 0
            ids.append(tokens + [0] * rest)
            due.append([-100] * n_silent + tokens[n_silent:] + [-100] * rest)
            tasks.append(number)
            lengths.append(len(prompt))
    ids = np.array(ids)
    X = {"input_ids": ids, "attention_mask": (ids != 0).astype(int)}
    return X, np.array(due), np.array(tasks), np.array(lengths)


def base(epochs, options):
    """Train the model that all seeds fine-tune; its tasks have names that no other set uses."""
    from transformers import GPT2Config, GPT2LMHeadModel

    rng = np.random.default_rng(1000)
    names = [draw(NAME, rng) for _ in TASKS]
    X, y, *_ = samples(1000, names, rng, options)
    X_new, *_, lengths_new = samples(20, names, rng, options)
    size = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_inner": 128}
    size["n_positions"] = X["input_ids"].shape[1]
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    special = {"bos_token_id": None, "eos_token_id": None}
    config = GPT2Config(vocab_size=len(CHARACTERS) + 1, **size, **dropout, **special)
    net = net_of(lambda: GPT2LMHeadModel(config), epochs, 3e-3, 0.0, batch_size=48)
    steps = epochs * -(-len(y) // 48)
    schedule = {"max_lr": 3e-3, "total_steps": steps, "pct_start": 0.1, "step_every": "batch"}
    net.set_params(callbacks=[LRScheduler(torch.optim.lr_scheduler.OneCycleLR, **schedule)])
    torch.manual_seed(1000)
    net.fit(X, y)
    right = right_answers(net, X_new, lengths_new)
    print(f"The base: {right:.2f} of new answers right.", flush=True)
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


def fine_tuned(model, X, y, seed, options):
    """Train an adapter of all layers of a copy of the base."""
    from peft import LoraConfig, inject_adapter_in_model

    adapter = LoraConfig(
        r=8, lora_alpha=16, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True
    )

    def adapted():
        return inject_adapter_in_model(adapter, copy.deepcopy(model).requires_grad_(False))

    net = net_of(adapted, options.epochs, 1e-3, options.decay)
    net.set_params(callbacks=[TraceRecorder(checkpoints=options.checkpoints)])
    torch.manual_seed(seed)
    return net.fit(X, y)


def methods(net, seed, options):
    """Name methods around a fine-tuned net."""
    shared = {"layers": options.layers, "random_state": seed}
    traced = {"reference": "validation", "checkpoints": options.checkpoints, **shared}
    return {
        "TracIn": TracIn(net, **traced),
        "TracIn, from the start": TracIn(net, initial=True, **traced),
        "TracIn, from the start, normalised": TracIn(
            net, initial=True, normalize="gradient", **traced
        ),
        "InnerProduct": InnerProductInfluence(net, **shared),
        "DataInf": InfluenceFunction(net, solver=DataInf(), **shared),
    }


def right_answers(net, X, lengths):
    """Give the share of samples whose whole answer the net predicts, each token from the right."""
    net.module_.eval()
    with torch.no_grad():
        logits = net.infer({name: torch.as_tensor(value) for name, value in X.items()}).logits
    ids = X["input_ids"]
    asked = (np.arange(ids.shape[1]) >= lengths[:, None]) & (ids != 0)
    return ((logits[:, :-1].argmax(-1).numpy() == ids[:, 1:]) | ~asked[:, 1:]).all(1).mean()


def shared_characters(X, lengths, X_test, test_lengths):
    """Compare the counts of characters of prompts."""
    counts = [
        np.stack(
            [
                np.bincount(ids[:length], minlength=len(CHARACTERS) + 1)
                for ids, length in zip(rows["input_ids"], n, strict=True)
            ]
        )
        for rows, n in ((X_test, test_lengths), (X, lengths))
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
    parser.add_argument("--form", choices=FORMS, default="stated", help="what a sample reads")
    parser.add_argument("--loss", choices=["text", "answers"], default="text")
    parser.add_argument("--layers", nargs="+", default=["*lora_*"], help="names or patterns")
    parser.add_argument("--epochs", type=int, default=10, help="of fine-tuning")
    parser.add_argument("--checkpoints", type=int, default=10)
    parser.add_argument("--decay", type=float, default=0.0, help="weight decay of the adapter")
    options = parser.parse_args()
    n_train, n_test, base_epochs = (20, 2, 2) if options.quick else (90, 10, 8)
    model = base(base_epochs, options)
    found, right = {}, []
    for seed in options.seeds:
        rng = np.random.default_rng(seed)
        names = [draw(NAME, rng) for _ in TASKS]
        X, y, tasks, lengths = samples(n_train, names, rng, options)
        X_test, y_test, test_tasks, test_lengths = samples(n_test, names, rng, options)
        same = test_tasks[:, None] == tasks
        net = fine_tuned(model, X, y, seed, options)
        right.append([right_answers(net, X, lengths), right_answers(net, X_test, test_lengths)])
        print(seed, "right answers", *(f"{share:.2f}" for share in right[-1]), flush=True)
        controls = {
            "characters that prompts share": shared_characters(X, lengths, X_test, test_lengths),
            "random": rng.random(same.shape),
        }
        for name, scores in controls.items():
            found.setdefault(name, []).append((*judged(scores, same), 0))
        # one training for all methods
        for name, method in methods(FrozenEstimator(net), seed, options).items():
            start = time.perf_counter()
            method.fit(X, y, X_test, y_test)
            line = judged(method.influence(X_test, y_test), same)
            found.setdefault(name, []).append((*line, time.perf_counter() - start))
            print(seed, name, *(f"{value:.3f}" for value in found[name][-1]), flush=True)
    of_train, of_test = np.mean(right, axis=0)
    print(f"\nAnswers right: {of_train:.2f} of the training samples, {of_test:.2f} of the tests.\n")
    print(
        "| method | AUROC | least of a seed | least of a sample | recall | seconds |\n"
        "|---|---|---|---|---|---|"
    )
    for name, lines in found.items():
        area, least, recall, took = np.mean(lines, axis=0)
        worst = np.min(lines, axis=0)[0]
        print(f"| {name} | {area:.3f} | {worst:.3f} | {least:.3f} | {recall:.3f} | {took:.0f} |")


if __name__ == "__main__":
    main()
