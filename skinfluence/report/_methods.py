"""Which method judges the rows, by its name."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from skinfluence.nets import default_net
from skinfluence.outlier._outlier_gradients import OutlierGradientDetector
from skinfluence.report._errors import AuditError

METHODS = ("committee", "forest", "net")
_FOLDS = 5


@dataclass(frozen=True)
class Choice:
    """A method by its name, where it computes, its seed, and what the target is."""

    name: str
    device: str
    seed: int
    is_numeric: bool  # the target

    @property
    def task(self) -> str:
        """What the targets are."""
        return "regression" if self.is_numeric else "classification"

    def made(self, inputs: np.ndarray, given: np.ndarray) -> Any:
        """Make the method for these rows, not fitted."""
        task = self.task
        if self.name == "net":
            net = default_net(inputs, given, random_state=self.seed, task=task)
            net.set_params(device=self.device)
            return OutlierGradientDetector(net, cv=_FOLDS, random_state=self.seed)
        members: Any = "auto" if self.name == "committee" else [self.name]
        return OutlierGradientDetector(committee=members, task=task, random_state=self.seed)

    def code(self) -> tuple[list[str], list[str]]:
        """Write the lines that import and fit the same method on X and y."""
        imports, lines = ["from skinfluence import OutlierGradientDetector"], []
        if self.name == "net":
            imports.append("from skinfluence.nets import default_net")
            lines = [
                f"net = default_net(X, y, random_state={self.seed}, task={self.task!r})",
                f"net.set_params(device={self.device!r})",
            ]
            settings = f"net, cv={_FOLDS}, random_state={self.seed}"
        else:
            members = ""
            if self.name != "committee":
                members = f"committee=[{self.name!r}], "
            settings = f"{members}task={self.task!r}, random_state={self.seed}"
        return imports, [*lines, f"method = OutlierGradientDetector({settings}).fit(X, y)"]


def check_device(method: str, device: str) -> None:
    """Refuse a device that is not there, or that the method does not use."""
    import torch

    if device == "cpu":
        return
    if method != "net":
        raise AuditError(f"--device is for --method net: --method {method} trains on the cpu.")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        cause = str(error).split("\n", maxsplit=1)[0]
        raise AuditError(f"Device {device!r} cannot be used: {cause}") from None
