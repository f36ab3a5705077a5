"""Nets that costs are measured on."""

import torch
from torch import nn


class Mlp(nn.Sequential):
    """784-256-256-10."""

    def __init__(self):
        super().__init__(
            nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
        )


class SmallMlp(nn.Sequential):
    """20-64-64-10, for which everything but the arithmetic counts."""

    def __init__(self):
        super().__init__(
            nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
        )


class Cnn(nn.Sequential):
    """Two convolutions of 16 and 32 channels, 3 x 3, for images of any size."""

    def __init__(self, n_channels=1):
        super().__init__(
            nn.Conv2d(n_channels, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(512, 10),
        )


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    def __init__(self, n_inputs, n_outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(n_inputs, n_outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(n_outputs)
        self.conv2 = nn.Conv2d(n_outputs, n_outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(n_outputs)
        self.shortcut = nn.Identity()
        if stride != 1 or n_inputs != n_outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(n_inputs, n_outputs, 1, stride, bias=False), nn.BatchNorm2d(n_outputs)
            )

    def forward(self, X):
        """Add the shortcut to two convolutions."""
        out = torch.relu_(self.norm1(self.conv1(X)))
        return torch.relu_(self.norm2(self.conv2(out)) + self.shortcut(X))


class ResNet18(nn.Module):
    """ResNet-18 for small images (He et al. 2016, with the 3x3 stem used for CIFAR).

    Four stages of two blocks; `width` channels in the first.
    """

    def __init__(self, n_channels=3, width=64, n_outputs=10):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(n_channels, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        sizes = [width, width, 2 * width, 4 * width, 8 * width]
        self.blocks = nn.Sequential(
            *(
                Block(n_inputs if i == 0 else n_outputs, n_outputs, stride if i == 0 else 1)
                for n_inputs, n_outputs, stride in zip(sizes, sizes[1:], (1, 2, 2, 2), strict=False)
                for i in range(2)
            )
        )
        self.head = nn.Linear(8 * width, n_outputs)

    def forward(self, X):
        """Map images to logits."""
        return self.head(self.blocks(self.stem(X)).mean((2, 3)))
