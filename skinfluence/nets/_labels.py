"""The classes of a classifier: what the user calls them, and what the net does."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinfluence.gradients._skorch import kind_of
from skinfluence.rows._targets import check_class_labels, distinct_labels

# Where a fitted net that has no parameter for them keeps the user's names of its classes.
_CLASS_NAMES = "skinfluence_classes_"


@dataclass(frozen=True)
class Labels:
    """The classes of a classifier.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        What the user calls them.
    codes : ndarray of shape (n_classes,)
        What the net calls them: the index of an output, or 0 and 1.
    """

    classes: NDArray[Any]
    codes: NDArray[Any]

    def encode(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Turn labels into codes.

        Parameters
        ----------
        labels : ndarray of shape (n_samples,)

        Returns
        -------
        ndarray of shape (n_samples,)

        Raises
        ------
        ValueError
            If a label is none of the classes.
        """
        code_of = dict(zip(self.classes.tolist(), self.codes.tolist(), strict=True))
        present, position = np.unique(labels, return_inverse=True)
        unknown = [label for label in present.tolist() if label not in code_of]
        if unknown:
            raise ValueError(
                f"y holds labels the net was never trained on: {unknown[:5]}. It knows "
                f"{self.classes.tolist()}. Encode y as in training, or train on all classes."
            )
        return np.array([code_of[label] for label in present.tolist()])[position]

    def decode(self, codes: NDArray[Any]) -> NDArray[Any]:
        """Turn codes back into labels.

        Parameters
        ----------
        codes : ndarray of shape (n_samples,) or (n_samples, 1)

        Returns
        -------
        ndarray of shape (n_samples,)

        Raises
        ------
        ValueError
            If a code is none of `codes`.
        """
        label_of = {code: i for i, code in enumerate(self.codes.tolist())}
        present, position = np.unique(codes, return_inverse=True)
        unknown = [code for code in present.tolist() if code not in label_of]
        if unknown:
            raise ValueError(
                f"The net predicts the classes {unknown[:5]}, but the labels it was trained on are "
                f"{self.codes.tolist()} to it: it has an output that no label belongs to. Make the "
                "module's number of outputs the number of classes."
            )
        places = np.array([label_of[code] for code in present.tolist()], dtype=np.intp)
        labels: NDArray[Any] = self.classes[places[position.reshape(-1)]]
        return labels


def class_labels(y: NDArray[Any]) -> Labels:
    """Find the classes of targets, in sorted order, or raise ValueError; at least two."""
    classes = distinct_labels(check_class_labels(y))
    if len(classes) < 2:
        raise ValueError(
            f"y holds one class, {classes.tolist()[0]!r}; a classifier needs at least two. "
            "Check how the rows were selected."
        )
    return Labels(classes, np.arange(len(classes)))


def labels_in(net: Any, y: NDArray[Any] | None) -> Labels | None:
    """Read the classes off the targets of a net still to be trained."""
    kind = kind_of(net)
    if y is None or kind not in {"classes", "binary"}:
        return None
    labels = class_labels(y)
    if kind == "binary" and len(labels.classes) > 2:
        raise ValueError(
            f"{type(net).__name__} tells two classes apart, but y holds {len(labels.classes)}: "
            f"{labels.classes.tolist()[:5]}. Use NeuralNetClassifier with one output a class."
        )
    named = getattr(net, "classes", None)
    if kind == "classes" and named is not None:  # the order that class weights follow
        return Labels(np.asarray(named), np.arange(len(named)))
    return labels


def name_classes(net: Any, labels: Labels) -> None:
    """Leave the user's names of the classes with a fitted net, for `labels_of_fitted`."""
    if kind_of(net) == "binary" and len(labels.classes) == 2:
        vars(net)[_CLASS_NAMES] = labels.classes


def labels_of_fitted(net: Any) -> Labels | None:
    """Read the classes off a fitted net."""
    kind = kind_of(net)
    if kind == "binary":
        return Labels(vars(net).get(_CLASS_NAMES, np.arange(2)), np.arange(2))
    if kind != "classes":
        return None
    named = getattr(net, "classes", None)
    if named is not None:
        return Labels(np.asarray(named), np.arange(len(named)))
    # skorch does not encode: without names, a class is the index of its output
    seen = getattr(net, "classes_inferred_", None)
    return None if seen is None else Labels(np.asarray(seen), np.asarray(seen))
