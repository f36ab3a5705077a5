"""
What to look at
===============

Scores are numbers; people look at rows. A tenth of the labels of a thousand handwritten digits is
flipped, and everything that a fitted method says of them is drawn, or put into a table.

Dashes, hatches and markers tell things apart besides colors, so that all pictures can be printed.
"""

# %%
# One method is fitted. The committee, which is the default, judges every row by models that were
# not trained on it.

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinfluence import OutlierGradientDetector
from skinfluence.datasets import make_noisy_labels
from skinfluence.display import (
    DataMapDisplay,
    DetectionCurveDisplay,
    DetrimentalityDisplay,
    NoiseMatrixDisplay,
    SampleGalleryDisplay,
    explain,
    issues_frame,
)

X, truth = load_digits(return_X_y=True, as_frame=True)
X, truth = X[:1000], truth[:1000]
y, is_noisy = make_noisy_labels(truth, rate=0.1, random_state=0)
method = make_pipeline(StandardScaler(), OutlierGradientDetector(random_state=0)).fit(X, y)

# %%
# A table of answers
# ------------------
# A line for every row, with the index of the data frame. Predictions are out of sample; where a
# method has none, their columns are left out. A budget says how many rows to flag; without one, as
# many are as may be with one in ten rightly labelled.

frame = issues_frame(method, X, y, budget=0.1)
print(frame.sort_values("detrimentality", ascending=False).round(2).head(4).to_string())
mended = (frame.suggested_label == truth)[frame.flag].mean()
print(f"of the rows flagged, the label suggested is right in {mended:.0%}")

# %%
# The worst rows
# --------------
# Below each digit are the nearest ones that were given other labels: what contradicts it. Frames
# mark labels that were flipped, which is known here.

SampleGalleryDisplay.from_estimator(method, X, y, image_shape=(8, 8), is_noisy=is_noisy)
plt.show()

# %%
# Why this row
# ------------

why = explain(method, X, y, method[-1].ranking_[0], image_shape=(8, 8))
print(why)
why.display()
plt.show()

# %%
# The whole set
# -------------
# How the scores are spread, which labels are given to digits of which class, and how sure the
# committee's nets were of the labels while they were trained on other rows.

DetrimentalityDisplay.from_estimator(method, is_noisy=is_noisy)
NoiseMatrixDisplay.from_estimator(method, y)
DataMapDisplay.from_estimator(method, X, y, is_noisy=is_noisy)
plt.show()

# %%
# Where errors are known
# ----------------------
# Inspecting rows from the most detrimental down finds nearly all flips first.

DetectionCurveDisplay.from_estimator(method, is_noisy)
plt.show()
