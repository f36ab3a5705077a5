"""Which fine-tuning samples made this answer: ten tasks taught to a small causal language model.

    python -m benchmarks.studies.fine_tuning --seeds 0 1 2 [--quick]

A prompt is the sign of a task and a string; the answer is the string transformed (reversed, sorted,
doubled, ...). A GPT of two layers is trained from a config on samples of all ten tasks. For each
test sample, of a string drawn anew, the training samples are ranked by each method's influence, one
score a sample; nothing knows of the tasks. AUROC of the samples of the same task, and their share
among as many as there are of them at the top, each a mean over the test samples. Published figures
of 1.000 gave all samples of a task one score, made from that grouping.
"""

import argparse
import time

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from skorch import NeuralNet

from skinfluence import InfluenceFunction, InnerProductInfluence, TraceRecorder, TracIn
from skinfluence.influence import DataInf
from skinfluence.nets import CausalLMLoss

LETTERS, LENGTH = "abcdefghij", 5
TASKS = {
    "reverse": lambda s: s[::-1],
    "copy": lambda s: s,
    "sort": lambda s: "".join(sorted(s)),
    "sort down": lambda s: "".join(sorted(s, reverse=True)),
    "rotate left": lambda s: s[1:] + s[0],
    "rotate right": lambda s: s[-1] + s[:-1],
    "next letter": lambda s: "".join(LETTERS[(LETTERS.index(c) + 1) % len(LETTERS)] for c in s),
    "previous letter": lambda s: "".join(LETTERS[LETTERS.index(c) - 1] for c in s),
    "first only": lambda s: s[0] * len(s),
    "last only": lambda s: s[-1] * len(s),
}
PAD, SEPARATOR, SIGNS = 0, 1, 2
FIRST_LETTER = SIGNS + len(TASKS)
N_TOKENS = FIRST_LETTER + len(LETTERS)


def samples(n_per_task, rng):
    """Draw tokens, targets of which prompts are no part, and the number of each sample's task."""
    ids, due, tasks = [], [], []
    for number, task in enumerate(TASKS.values()):
        for _ in range(n_per_task):
            text = "".join(rng.choice(list(LETTERS), rng.integers(3, LENGTH + 1)))
            answer = [FIRST_LETTER + LETTERS.index(c) for c in task(text)]
            prompt = [SIGNS + number, *(FIRST_LETTER + LETTERS.index(c) for c in text), SEPARATOR]
            rest = 2 * LENGTH + 2 - len(prompt) - len(answer)
            ids.append(prompt + answer + [PAD] * rest)
            due.append([-100] * len(prompt) + answer + [-100] * rest)
            tasks.append(number)
    ids = np.array(ids)
    X = {"input_ids": ids, "attention_mask": (ids != PAD).astype(int)}
    return X, np.array(due), np.array(tasks)


def gpt():
    from transformers import GPT2Config, GPT2LMHeadModel

    size = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 2 * LENGTH + 2}
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    special = {"bos_token_id": None, "eos_token_id": None}
    return GPT2LMHeadModel(GPT2Config(vocab_size=N_TOKENS, **size, **dropout, **special))


def methods(net, seed, layers):
    shared = {"layers": layers, "random_state": seed}
    return {
        "TracIn": TracIn(net, reference="validation", checkpoints=5, **shared),
        "TracIn, normalised": TracIn(
            net, reference="validation", checkpoints=5, normalize="gradient", **shared
        ),
        "InnerProduct": InnerProductInfluence(net, **shared),
        "DataInf": InfluenceFunction(net, solver=DataInf(), **shared),
    }


def right_answers(net, X, y):
    """Give the share of samples whose whole answer the net predicts, each token from the right."""
    net.module_.eval()
    with torch.no_grad():
        logits = net.infer({name: torch.as_tensor(value) for name, value in X.items()}).logits
    hit = (logits[:, :-1].argmax(-1).numpy() == y[:, 1:]) | (y[:, 1:] == -100)
    return hit.all(1).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--quick", action="store_true", help="20 samples a task, 30 epochs")
    parser.add_argument("--layers", nargs="+", default=["all"], help="names or patterns")
    options = parser.parse_args()
    n_train, n_test, epochs = (20, 3, 30) if options.quick else (90, 10, 100)
    layers = "all" if options.layers == ["all"] else options.layers
    found, right = {}, []
    for seed in options.seeds:
        rng = np.random.default_rng(seed)
        X, y, tasks = samples(n_train, rng)
        X_test, y_test, test_tasks = samples(n_test, rng)
        net = NeuralNet(
            gpt,
            criterion=CausalLMLoss,
            optimizer=torch.optim.Adam,
            lr=2e-3,
            batch_size=32,
            max_epochs=epochs,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
            callbacks=[TraceRecorder(checkpoints=5)],
        )
        torch.manual_seed(seed)
        net = FrozenEstimator(net.fit(X, y))  # one training for all methods
        for name, method in methods(net, seed, layers).items():
            start = time.perf_counter()
            method.fit(X, y, X_test, y_test)
            scores = method.influence(X_test, y_test)
            took = time.perf_counter() - start
            same = test_tasks[:, None] == tasks
            areas = [roc_auc_score(own, row) for own, row in zip(same, scores, strict=True)]
            first = np.argsort(-scores, axis=1, kind="stable")[:, :n_train]
            recall = np.take_along_axis(same, first, 1).mean()
            found.setdefault(name, []).append((np.mean(areas), np.min(areas), recall, took))
            print(seed, name, *(f"{value:.3f}" for value in found[name][-1]), flush=True)
        right.append([right_answers(net.estimator, *rows) for rows in ((X, y), (X_test, y_test))])
    of_train, of_test = np.mean(right, axis=0)
    print(
        f"\nAnswers right: {of_train:.2f} of the training samples, {of_test:.2f} of the test's.\n"
    )
    print("| method | AUROC | least of a sample | recall | seconds |\n|---|---|---|---|---|")
    for name, lines in found.items():
        area, least, recall, took = np.mean(lines, axis=0)
        print(f"| {name} | {area:.3f} | {least:.3f} | {recall:.3f} | {took:.0f} |")


if __name__ == "__main__":
    main()
