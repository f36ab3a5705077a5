"""Which method judges the rows, by its name."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from skinfluence.methods._label_errors import (
    LabelErrors,
    estimate_label_errors,
    estimate_target_errors,
    label_errors_of,
)
from skinfluence.nets import default_net
from skinfluence.outlier._outlier_gradients import OutlierGradientDetector
from skinfluence.report._errors import AuditError

METHODS = ("committee", "forest", "net")
_FOLDS = 5


@dataclass(frozen=True)
class Choice:
    """A method by its name, where it computes, and its seed."""

    name: str
    device: str
    seed: int

    def made(self, inputs: np.ndarray, given: np.ndarray, *, is_numeric: bool) -> Any:
        """Make the method for these rows, not fitted."""
        task = "regression" if is_numeric else "classification"
        if self.name == "net":
            net = default_net(inputs, given, random_state=self.seed, task=task)
            net.set_params(device=self.device)
            return OutlierGradientDetector(net, cv=_FOLDS, random_state=self.seed)
        members: Any = "auto" if self.name == "committee" else [self.name]
        return OutlierGradientDetector(committee=members, task=task, random_state=self.seed)

    def code(self, *, is_numeric: bool) -> list[str]:
        """Write the lines that fit the same method on X and y."""
        task = "regression" if is_numeric else "classification"
        if self.name == "net":
            return [
                f"net = default_net(X, y, random_state={self.seed}, task={task!r})",
                f"net.set_params(device={self.device!r})",
                f"method = OutlierGradientDetector(net, cv={_FOLDS}, random_state={self.seed})",
                "method.fit(X, y)",
            ]
        members = "" if self.name == "committee" else f"committee=[{self.name!r}], "
        settings = f"{members}task={task!r}, random_state={self.seed}"
        return [f"method = OutlierGradientDetector({settings}).fit(X, y)"]


def check_device(choice: Choice) -> None:
    """Refuse a device that is not there, or that the method does not use."""
    import torch

    if choice.device == "cpu":
        return
    if choice.name != "net":
        raise AuditError(f"--device is for --method net: --method {choice.name} trains on the cpu.")
    try:
        torch.zeros(1, device=choice.device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        cause = str(error).split("\n", maxsplit=1)[0]
        raise AuditError(f"Device {choice.device!r} cannot be used: {cause}") from None


def errors_of(method: Any, given: np.ndarray, *, is_numeric: bool) -> LabelErrors:
    """Estimate which targets are wrong, by models that did not see the row."""
    if hasattr(method, "label_errors_"):
        return label_errors_of(method)
    if is_numeric:
        return estimate_target_errors(method.oof_predictions_.reshape(-1), given)
    return estimate_label_errors(method.oof_probabilities_, given)
