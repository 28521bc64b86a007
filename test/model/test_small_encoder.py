from __future__ import annotations

import pytest
import torch
from torch import nn

from qt_ros.model.small_encoder import SmallEncoder, position_features


def encoder() -> SmallEncoder:
    torch.manual_seed(0)
    net = SmallEncoder(image_height=16, image_width=24, channels=8, blocks=2, text_size=5)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net


def test_the_map_has_a_quarter_of_the_resolution_and_carries_positions() -> None:
    net = encoder()
    out = net(torch.randint(0, 256, (3, 3, 16, 24), dtype=torch.uint8), torch.randn(3, 5))
    assert out.shape == (3, net.out_channels, 4, 6)
    assert net.grid == (4, 6)
    torch.testing.assert_close(out[1, 8:], position_features(4, 6))


def test_the_map_is_channels_last_so_that_token_learner_need_not_copy() -> None:
    out = encoder()(torch.randint(0, 256, (2, 3, 16, 24), dtype=torch.uint8), torch.randn(2, 5))
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_position_features_start_with_x_and_y_of_the_cell_centres() -> None:
    features = position_features(2, 4)
    torch.testing.assert_close(features[0, 0], torch.tensor([-0.75, -0.25, 0.25, 0.75]))
    torch.testing.assert_close(features[1, :, 0], torch.tensor([-0.5, 0.5]))


def test_every_cell_has_its_own_position_features() -> None:
    features = position_features(24, 32).flatten(1).T
    distances = torch.cdist(features, features) + 10.0 * torch.eye(len(features))
    assert float(distances.min()) > 0.05


def test_the_text_changes_the_map() -> None:
    net, images = encoder(), torch.randint(0, 256, (1, 3, 16, 24), dtype=torch.uint8)
    assert not torch.allclose(net(images, torch.randn(1, 5)), net(images, torch.randn(1, 5)))


@pytest.mark.parametrize("training", [False, True])
def test_a_frame_does_not_depend_on_the_frames_beside_it(training: bool) -> None:
    net = encoder().train(training)
    images, text = torch.randint(0, 256, (4, 3, 16, 24), dtype=torch.uint8), torch.randn(4, 5)
    torch.testing.assert_close(net(images, text)[2:3], net(images[2:3], text[2:3]))
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules())
