"""The residual encoder shared by all models: MONAI's ResNet with a full-resolution stem."""

from __future__ import annotations

from monai.networks.nets.resnet import ResNet
from torch import Tensor, nn

from cryosiam_engine.networks.description import EncoderDescription


class Encoder(ResNet):
    """ResNet that gives the maps of its four stages; parameter names are the published ones.

    Parameters
    ----------
    description
        Sizes of the encoder.
    fc
        What follows the pooled output. It is registered here because the published files hold
        its weights under ``encoder.fc``.
    """

    def __init__(self, description: EncoderDescription, fc: nn.Module) -> None:
        super().__init__(
            block=description.block_type,
            layers=list(description.num_layers),
            block_inplanes=list(description.num_filters),
            spatial_dims=description.spatial_dims,
            n_input_channels=description.in_channels,
            no_max_pool=description.no_max_pool,
            feed_forward=False,
        )
        self.fc = fc  # type: ignore[assignment]  # MONAI only means a linear layer

    def stem(self) -> nn.Sequential:
        """Everything before the first stage, as layers that share this encoder's weights."""
        layers = [self.conv1, self.bn1, self.act]
        return nn.Sequential(*layers if self.no_max_pool else [*layers, self.maxpool])

    def stages(self) -> list[nn.Sequential]:
        """Give the four stages, finest first."""
        return [self.layer1, self.layer2, self.layer3, self.layer4]

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """Compute the four stages' maps, finest first.

        Parameters
        ----------
        x
            Images, ``(b, in_channels, z, y, x)``.

        Returns
        -------
        list of Tensor
            Maps of 1, 1/2, 1/4 and 1/8 of the stem's size.
        """
        return stage_maps(self.stem(), self.stages(), x)

    def pool(self, coarsest: Tensor) -> Tensor:
        """Average the coarsest map over space: ``(b, channels, ...)`` to ``(b, channels)``."""
        pooled: Tensor = self.avgpool(coarsest).flatten(1)
        return pooled


def stage_maps(stem: nn.Module, stages: list[nn.Sequential], x: Tensor) -> list[Tensor]:
    """Outputs of all `stages`, each fed with the one before, the first with the stem's output."""
    x = stem(x)
    levels = []
    for stage in stages:
        x = stage(x)
        levels.append(x)
    return levels
