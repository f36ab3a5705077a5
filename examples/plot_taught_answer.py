"""
Which samples taught the model this answer
===========================================

A small language model learns to transform words: upper case, every letter twice, and so on. Asked a
question that it has not seen, it answers. Which of its training samples taught it to? Each sample
gets a score of its own for each question, the fall of that answer's loss that training on the
sample has caused.

The model is a GPT of two layers, made from a config and trained here in some seconds; one of your
own goes in its place. Needs ``skinfluence[text]``.
"""

# %%
# A prompt names the task and gives a word; the answer ends with a full stop
# ---------------------------------------------------------------------------
import matplotlib.pyplot as plt
import numpy as np
import torch
from skorch import NeuralNet
from transformers import GPT2Config, GPT2LMHeadModel

from skinfluence import TracIn
from skinfluence.nets import CausalLMLoss

TASKS = {
    "upper": str.upper,
    "twice": lambda word: "".join(2 * letter for letter in word),
    "first": lambda word: word[0],
    "vowel": lambda word: "".join("*" if letter in "aeiou" else letter for letter in word),
}
LENGTH = 20
NUMBER = {c: i for i, c in enumerate("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ*>. ", 1)}
rng = np.random.default_rng(0)


def tokens(prompts, answers):
    """Make numbers of characters; those of prompts are nothing to predict."""
    ids, due = np.zeros((2, len(prompts), LENGTH), dtype=int)
    due -= 100
    for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        text = [NUMBER[c] for c in prompt + answer]
        ids[i, : len(text)] = text
        due[i, len(prompt) : len(text)] = text[len(prompt) :]
    return {"input_ids": ids, "attention_mask": (ids > 0).astype(int)}, due


def samples(n):
    """Make n words for each task: its number, prompts, answers."""
    task = np.repeat(np.arange(len(TASKS)), n)
    words = [
        "".join(rng.choice(list(part)) for part in ["bdfgklmnprstvz", "aeiou"] * 2) for _ in task
    ]
    names = np.array(list(TASKS))[task]
    prompts = [f"{name} {word}>" for name, word in zip(names, words, strict=True)]
    answers = [f"{TASKS[name](word)}." for name, word in zip(names, words, strict=True)]
    return task, prompts, answers


task, prompts, answers = samples(150)
X, y = tokens(prompts, answers)
asked, questions, expected = samples(10)
X_new, y_new = tokens(questions, expected)

# %%
# Train, and keep what the net was at five moments on the way
# -----------------------------------------------------------
config = GPT2Config(
    vocab_size=len(NUMBER) + 1, n_positions=LENGTH, n_embd=48, n_layer=2, n_head=4, n_inner=96,
    resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=None, eos_token_id=None,
)  # fmt: skip
torch.manual_seed(0)
net = NeuralNet(
    GPT2LMHeadModel,
    module__config=config,
    criterion=CausalLMLoss,
    optimizer=torch.optim.Adam,
    lr=4e-3,
    batch_size=32,
    max_epochs=16,
    iterator_train__shuffle=True,
    train_split=None,
    verbose=0,
)
method = TracIn(
    net, reference="validation", normalize="gradient", layers="all", checkpoints=5, random_state=0
)
method.fit(X, y, X_new, y_new)
with torch.no_grad():
    logits = method.net_.infer(
        {name: torch.as_tensor(value) for name, value in X_new.items()}
    ).logits
is_right = (logits[:, :-1].argmax(-1).numpy() == y_new[:, 1:]) | (y_new[:, 1:] == -100)
print(f"{is_right.all(1).mean():.0%} of the new questions are answered")

# %%
# What helped most with one question
# ----------------------------------
question = 15
scores = method.influence(X_new, y_new)
print(f"{questions[question]}{expected[question]} owes most to")
for row in np.argsort(-scores[question])[:5]:
    print(f"    {prompts[row]}{answers[row]}")
first = task[np.argsort(-scores, axis=1)[:, :20]]
print(f"of the 20 first, {(first == asked[:, None]).mean():.0%} are samples of the question's task")

# %%
# All questions against all samples
# ---------------------------------
# The method is not told of the tasks, and yet they show: a question owes its answer to samples of
# its own task. Where others helped too, they have something to teach: "first", "vowel" and "twice"
# all begin with the word's first letter, while "upper" writes characters that no other task has.
figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
limit = np.quantile(np.abs(scores), 0.99)
image = ax.imshow(scores, aspect="auto", cmap="RdBu", vmin=-limit, vmax=limit, interpolation="none")
for edge in range(1, len(TASKS)):
    ax.axhline(10 * edge - 0.5, color="k", lw=0.8)
    ax.axvline(150 * edge - 0.5, color="k", lw=0.8)
ax.set_xticks(150 * np.arange(len(TASKS)) + 75, TASKS)
ax.set_yticks(10 * np.arange(len(TASKS)) + 4.5, TASKS)
ax.set(xlabel="training samples, by task", ylabel="new questions, by task")
ax.set_title("Which samples taught the model this answer")
figure.colorbar(image, label="influence: positive helped")
plt.show()
