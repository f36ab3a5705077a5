"""
From raw reviews to the most suspicious ones
=============================================

Reviews of products, of which a few got the wrong mark. They go in as texts; out come those whose
mark does not fit what they say, worst first, with their words.

The reviews are put together from phrases, so that it is known which marks are wrong. A vectoriser
makes a sparse table of them in a ``Pipeline``. A language model may take its place: see the page on
texts of the manual.
"""

# %%
# Four hundred reviews, a fortieth of them marked wrongly
# -------------------------------------------------------
import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

from skinfluence import OutlierGradientDetector

THINGS = ["kettle", "lamp", "radio", "tent", "desk", "backpack", "drill", "keyboard"]
PRAISE = [
    *("works as promised", "still going strong after a year", "worth every cent"),
    *("arrived early and well packed", "would buy it again", "easy to set up", "sturdy and quiet"),
]
BLAME = [
    *("broke within a week", "louder than a truck", "a waste of money"),
    *("arrived late and scratched", "sending it back", "the manual is useless", "smells of glue"),
]
EITHER = ["bought it for my brother", "the colour is blue", "ordered on a Monday", "comes in a box"]

rng = np.random.default_rng(0)
good = rng.random(400) < 0.5
texts = [
    f"The {rng.choice(THINGS)}: "
    + ", ".join(rng.permutation([*rng.choice(PRAISE if g else BLAME, 2), *rng.choice(EITHER, 2)]))
    for g in good
]
is_wrong = np.zeros(400, dtype=bool)
is_wrong[rng.choice(400, 10, replace=False)] = True
marks = np.where(good ^ is_wrong, "good", "bad")

# %%
# The ranking, and the reviews that lead it
# -----------------------------------------
pipeline = make_pipeline(TfidfVectorizer(), OutlierGradientDetector(random_state=0))
method = pipeline.fit(texts, marks)[-1]
first = method.ranking_[:20]
for row in first[:6]:
    print(f"{marks[row]:4} {texts[row]}")
print(f"of the 10 wrong marks, {is_wrong[first].sum()} are among the first 20 reviews")

# %%
# How far they stand apart
# ------------------------
scores = method.detrimentality_[method.ranking_]
wrong = is_wrong[method.ranking_]
figure, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
places = np.arange(1, 61)
ax.vlines(places, scores[59], scores[:60], color="0.7")
ax.plot(places[wrong[:60]], scores[:60][wrong[:60]], "X", ms=9, label="the mark is wrong")
ax.plot(places[~wrong[:60]], scores[:60][~wrong[:60]], "o", ms=4, color="0.4", label="right")
ax.set(xlabel="place in the ranking", ylabel="detrimentality", title="The first 60 of 400 reviews")
ax.legend(frameon=False)
plt.show()
