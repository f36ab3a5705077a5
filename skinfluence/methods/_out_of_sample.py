"""What is predicted of training rows by what was not trained on them: kept by every method."""

from typing import Any

import numpy as np

from skinfluence.rows._rows import Rows


def predicted_by(method: Any, rows: Rows) -> np.ndarray | None:
    """Predict rows by what a method trained: probabilities of its classes, numbers, or None."""
    trained = method._trained
    if trained.predicts_numbers:
        predicted = np.asarray(trained.predict(rows.inputs), dtype=np.float64)
        return predicted.reshape(rows.known_targets().shape)
    if not trained.has_probabilities:
        return None
    try:
        found = trained.class_probabilities(rows.inputs, getattr(method, "trace_", None))
    except ValueError:  # a net for classes may have outputs that are none, and a loss all the same
        return None
    return np.asarray(found if trained.labels is None else found[:, trained.labels.codes])


def keep_out_of_sample(method: Any, predicted: np.ndarray) -> None:
    """Set what was predicted of the training rows without them."""
    numbers = method._trained.predicts_numbers
    setattr(method, "oof_predictions_" if numbers else "oof_probabilities_", predicted)


def keep_held_out(method: Any, parts: list[tuple[np.ndarray, np.ndarray | None]]) -> None:
    """Put together what folds predict of the rows they hold out, where they predict."""
    held = np.concatenate([rows for rows, _ in parts])
    values = [found for _, found in parts if found is not None]
    if len(values) == len(parts):
        together = np.concatenate(values)
        ordered = np.empty_like(together)
        ordered[held] = together
        keep_out_of_sample(method, ordered)
