"""TensorClog: pictures on which a trained network's gradient vanishes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from countermove.errors import ConfigError
from countermove.learning.recipe import Recipe
from countermove.nets.features import last_linear, logits_and_features
from countermove.nets.registry import check_network
from countermove.pixels.balls import Ball, Norm, check_radius
from countermove.pixels.batch import Batch
from countermove.pixels.steps import frozen
from countermove.unlearnable.crafting import descend, in_portions
from countermove.unlearnable.poison import Context, Surrogate


@dataclass(frozen=True, kw_only=True)
class TensorClog:
    """TensorClog (TC), Shen et al. 2019, doi:10.1109/ACCESS.2019.2905915.

    A surrogate is trained on the clean pictures; then the noise makes the gradient of its loss with respect to its
    parameters small, so that a learner has little to go by.

    eps:        L-infinity radius (paper: 26/255; the squeezing thesis: 8/255 too).
    layers:     "last": the gradient of the last linear layer, of every picture by itself (paper). It has a closed form
                and costs one pass a step. "all": the gradient of all parameters, of a whole batch together, by
                differentiating twice (the recipe in the released code of TAP).
    step:       length of one sign step; 0 means eps / 10.
    steps:      sign steps a picture, from no noise (paper: 100).
    surrogate, surrogate_epochs: the trained network (paper: resnet-18 trained on CIFAR-100, pictures of CIFAR-10);
                shared with every poison that names the same.
    batch_size: pictures a step. With layers = all the noise of a picture depends on its batch.

    The defaults are for a CPU. Differs from the paper: sign steps, as in TAP's recipe, in place of raw gradient steps;
    no penalty on the noise besides its radius; the surrogate is trained on the pictures themselves. As in the released
    code the norms of weights and biases are added.
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Norm | None] = "linf"
    streams: ClassVar[bool] = False

    eps: float = 8 / 255
    layers: Literal["last", "all"] = "last"
    step: float = 0.0
    steps: int = 20
    surrogate: str = "small-cnn"
    surrogate_epochs: int = 20
    batch_size: int = 256

    def __post_init__(self) -> None:
        check_radius(self.eps, norm="linf")
        check_network(self.surrogate)
        if self.step < 0 or min(self.steps, self.batch_size, self.surrogate_epochs) < 1:
            raise ConfigError("tensorclog: step is not negative; steps, batch_size and surrogate_epochs are at least 1")

    def surrogates(self) -> tuple[Surrogate, ...]:
        """Return the network that must be trained first."""
        return (Surrogate(model=self.surrogate, recipe=Recipe(epochs=self.surrogate_epochs)),)

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return pictures [N, 3, H, W] within eps of the given ones."""
        network = context.trained(*self.surrogates())
        size_of = last_layer_norms if self.layers == "last" else all_layers_norm
        passes = self.steps * (1 if self.layers == "last" else 2)

        def craft(part: Batch, _number: int) -> Tensor:
            pictures, labels = part.pictures.to(context.device), part.labels.to(context.device)

            def gradient(moved: Tensor) -> Tensor:
                leaf = moved.requires_grad_()
                return torch.autograd.grad(size_of(network, leaf, labels).sum(), leaf)[0]

            context.meter.samples += passes * len(part)
            ball = Ball(norm="linf", radius=self.eps)
            return descend(pictures, gradient, ball=ball, step=self.step or self.eps / 10, steps=self.steps)

        with frozen(network):
            noise = in_portions(batch, self.batch_size, context, craft)
        return batch.with_pictures((batch.pictures + noise).clamp(0, 1))


def last_layer_norms(network: nn.Module, pictures: Tensor, labels: Tensor) -> Tensor:
    """Return how long the cross-entropy's gradient is in the last linear layer, for every picture by itself, [N].

    With features h, probabilities p and the one-hot label y the gradient is (p - y) h^T for the weights and p - y for
    the biases, so that the two norms are |p - y| |h| and |p - y|; their sum is returned. Differentiable.
    """
    logits, features = logits_and_features(network, pictures)
    error = logits.softmax(1) - F.one_hot(labels, logits.shape[1])
    biases = 0 if last_linear(network).bias is None else 1
    return torch.linalg.vector_norm(error, dim=1) * (torch.linalg.vector_norm(features, dim=1) + biases)


def all_layers_norm(network: nn.Module, pictures: Tensor, labels: Tensor) -> Tensor:
    """Return how long the gradient of the batch's mean cross-entropy is, over all parameters together; differentiable.

    The network itself is untouched: the gradient is taken with respect to stand-ins of its parameters.
    """
    weights = {name: parameter.detach().requires_grad_() for name, parameter in network.named_parameters()}
    with sdpa_kernel(SDPBackend.MATH):  # the faster attentions cannot be differentiated twice
        loss = F.cross_entropy(functional_call(network, weights, (pictures,)), labels)
        gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True, allow_unused=True)
    sizes = [torch.linalg.vector_norm(gradient) for gradient in gradients if gradient is not None]
    return torch.linalg.vector_norm(torch.stack(sizes))
