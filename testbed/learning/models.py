"""Models by their torchvision name, fitted to the data, with repeatable initial weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from testbed.learning import own
from testbed.learning.errors import UnknownModelError
from testbed.learning.vision import torchvision

# Up to this edge length an image is "small": the first convolution then keeps its size, or too little is left of it.
SMALL_IMAGE = 64


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Everything that determines a model's shape.

    Attributes:
        name: ``cnn`` (below), the name of a torchvision classification model, or a user's own (`testbed.learning.own`).
        classes: outputs.
        in_channels: channels of the images.
        image_size: edge to which images are brought before they enter the model.
    """

    name: str
    classes: int
    in_channels: int = 3
    image_size: int = 32


class Cnn(nn.Module):
    """The CNN of McMahan et al. (arXiv:1602.05629): two 5x5 convolutions of 32 and 64 channels, 512 units."""

    def __init__(self, classes: int, in_channels: int, image_size: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 32, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(64 * (image_size // 4) ** 2, 512), nn.ReLU(), nn.Linear(512, classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits, shape (batch, classes)."""
        logits: Tensor = self.classifier(self.features(images))
        return logits


def model_names() -> tuple[str, ...]:
    """Every name that `build_model` takes."""
    vision = torchvision()
    return ("cnn", *vision.models.list_models(module=vision.models))


def build_model(
    name: str, classes: int, in_channels: int = 3, image_size: int = 32, seed: int = 0
) -> nn.Module:
    """A model with fresh weights; equal arguments give equal weights, and nobody else's random state is touched.

    The head has *classes* outputs. The first convolution takes *in_channels* channels, and for images up to 64 pixels
    its stride becomes 1 (kernel, and so every tensor's size, unchanged: AlexNet keeps its 57 M parameters). Patch
    embeddings (stride = kernel) stay as they are.

    A user's own ``FILE.py:FUNCTION`` is built as it is, whatever the size of the images.

    Raises: UnknownModelError; OwnModelError where the user's function fails.
    """
    mine = own.is_model(name)
    # Our own needs no torchvision, which takes longer to load than PyTorch itself.
    if not mine and name != "cnn" and name not in (known := model_names()):
        raise UnknownModelError(name, known)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if mine:
            return own.build(name, classes, in_channels, image_size)
        if name == "cnn":
            return Cnn(classes, in_channels, image_size)
        options: dict[str, Any] = {}
        if name.startswith("vit_"):
            options["image_size"] = image_size
        if name in ("googlenet", "inception_v3"):
            options |= {"aux_logits": False, "init_weights": True}
        model: nn.Module = torchvision().models.get_model(name, weights=None, num_classes=classes, **options)
        _fit_stem(model, in_channels, image_size)
        return model


def build(spec: ModelSpec, seed: int = 0) -> nn.Module:
    """`build_model` from a `ModelSpec`."""
    return build_model(spec.name, spec.classes, spec.in_channels, spec.image_size, seed)


def load(spec: ModelSpec, state: Mapping[str, np.ndarray]) -> nn.Module:
    """A model holding a copy of *state*; built without drawing weights first, which for AlexNet takes a second.

    Raises: RuntimeError of torch, naming them, where tensors are missing, superfluous or of another shape.
    """
    with torch.device("meta"):
        model = build(spec)
    model.load_state_dict(to_torch(state), assign=True)
    if any(
        tensor.is_meta for tensor in (*model.parameters(), *model.buffers())
    ):  # a buffer outside the state
        model = build(spec)
        model.load_state_dict(to_torch(state))
    return model


def initial_state(spec: ModelSpec, seed: int) -> dict[str, np.ndarray]:
    """The state of a fresh model: the global model before the first round."""
    return to_numpy(build(spec, seed).state_dict())


def to_numpy(state: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Copy a state dict into NumPy arrays: names, order, shapes and dtypes stay (bfloat16 has no NumPy type)."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in state.items()}


def to_torch(state: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The other way round; always a copy, so that training never writes into the caller's arrays."""
    return {name: tensor(values) for name, values in state.items()}


def tensor(values: np.ndarray) -> Tensor:
    """A copy with plain strides in memory of torch's own; read-only and oddly strided arrays are fine."""
    values = np.asarray(values)
    made = torch.empty(values.shape, dtype=torch.from_numpy(np.empty(0, values.dtype)).dtype)
    made.numpy()[...] = values
    return made


def _fit_stem(model: nn.Module, in_channels: int, image_size: int) -> None:
    """Adapt the first convolution in place, wherever in the model it sits."""
    name, module = next((name, part) for name, part in model.named_modules() if isinstance(part, nn.Conv2d))
    patches = module.stride == module.kernel_size
    stride = (1, 1) if image_size <= SMALL_IMAGE and not patches else module.stride
    if stride == module.stride and in_channels == module.in_channels:
        return
    fitted = nn.Conv2d(
        in_channels,
        module.out_channels,
        module.kernel_size,  # type: ignore[arg-type]  # a pair, typed as a tuple of any length
        stride,  # type: ignore[arg-type]
        module.padding,  # type: ignore[arg-type]
        module.dilation,  # type: ignore[arg-type]
        module.groups,
        module.bias is not None,
    )
    if in_channels == module.in_channels:
        fitted.load_state_dict(module.state_dict())  # the model's own initialisation
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, fitted)
