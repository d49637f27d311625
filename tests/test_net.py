import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from net.build_net import MODELS, build_net
from net.multihead import MultiHead, normalise
from net.saved_zoo import SavedZoo
from net.smallconv import SmallConv
from utils.errors import UserError
from utils.rounds import ZooInfo

# Parameters of the backbone, and of one head: (model, (C, H, W), classes) -> (backbone, head). From the definitions.
GOLDEN = {
    ("wrn16_4", (3, 32, 32), 5): (2_746_320, 1_285),
    ("wrn16_4", (1, 28, 28), 5): (2_746_032, 1_285),
    ("resnet18_20", (3, 32, 32), 100): (480_580, 16_100),
    ("conv", (3, 32, 32), 5): (117_840, 1_605),
    ("conv", (3, 84, 84), 5): (117_840, 1_605),
    ("conv", (1, 28, 28), 5): (116_400, 405),
    ("conv", (1, 28, 28), 10): (116_400, 810),
}


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def network(model, *, image_shape=(1, 22, 22), num_classes=(2,), dropout=0.0):
    return build_net(model, image_shape=image_shape, num_classes=list(num_classes), dropout=dropout, seed=0)


def images(number, *, side=22, channels=1, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (number, side, side, channels), generator=random, dtype=torch.uint8)


def flat_net(num_features, num_classes):
    """Heads on the bare pixels: all of the arithmetic is theirs."""
    torch.manual_seed(0)
    return MultiHead(torch.nn.Flatten(), num_features, num_classes)


@pytest.mark.parametrize(("key", "expected"), GOLDEN.items(), ids=str)
def test_parameter_counts_are_the_papers(key, expected):
    model, image_shape, num_classes = key
    net = network(model, image_shape=image_shape, num_classes=[num_classes], dropout=0.2)
    assert (count(net.backbone), count(net.heads)) == expected


def test_every_model_has_a_golden_count():
    built = {type(network(model, image_shape=shape).backbone) for model, shape, _ in GOLDEN}
    assert built == set(MODELS.values())


@pytest.mark.parametrize("model", ["wrn10_1", "wrn16_2", "resnet18_2", "conv"])
def test_every_parameter_gets_a_gradient(model):
    net = network(model, image_shape=(3, 28, 28), num_classes=[2, 3], dropout=0.2)
    heads, labels = torch.tensor([0, 1, 0, 1, 1]), torch.tensor([0, 1, 1, 2, 0])
    F.cross_entropy(net(images(5, side=28, channels=3), heads), labels).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


# ---- heads


@settings(deadline=None, max_examples=40)
@given(
    num_classes=st.lists(st.integers(2, 10), min_size=1, max_size=5),
    batch=st.integers(1, 12),
    data=st.data(),
)
def test_heads_equal_separate_linear_layers(num_classes, batch, data):
    heads = data.draw(st.lists(st.integers(0, len(num_classes) - 1), min_size=batch, max_size=batch))
    labels = [data.draw(st.integers(0, num_classes[head] - 1)) for head in heads]
    net = flat_net(16, num_classes)
    pixels = images(batch, side=4)
    separate = []
    for weight, bias in zip(net.heads.weight.split(num_classes), net.heads.bias.split(num_classes), strict=True):
        layer = torch.nn.Linear(16, len(weight))
        layer.weight.data, layer.bias.data = weight.detach().clone(), bias.detach().clone()
        separate.append(layer)

    scores = net(pixels, torch.tensor(heads))
    loss = F.cross_entropy(scores, torch.tensor(labels))
    loss.backward()
    naive_loss = 0
    for image, head, label, row in zip(pixels, heads, labels, scores, strict=True):
        expected = separate[head](normalise(image[None]).flatten())
        assert torch.allclose(row[: num_classes[head]], expected, atol=1e-5)
        assert (row[num_classes[head] :] == -torch.inf).all()
        naive_loss = naive_loss + F.cross_entropy(expected[None], torch.tensor([label])) / batch
    naive_loss.backward()

    assert scores.shape == (batch, max(num_classes))
    side_by_side = [layer(normalise(pixels).flatten(1)) for layer in separate]
    assert torch.allclose(net(pixels, None), torch.cat(side_by_side, dim=1), atol=1e-5)
    assert loss.item() == pytest.approx(naive_loss.item(), abs=1e-5)
    for head, (layer, grad) in enumerate(zip(separate, net.heads.weight.grad.split(num_classes), strict=True)):
        if head in heads:
            assert torch.allclose(grad, layer.weight.grad, atol=1e-5)
        else:
            assert (grad == 0).all()


def test_tasks_of_two_three_and_ten_classes_share_a_batch():
    net = flat_net(16, [2, 3, 10])
    scores = net(images(3, side=4), torch.tensor([2, 0, 1]))
    assert torch.isfinite(scores).sum(dim=1).tolist() == [10, 2, 3]
    F.cross_entropy(scores, torch.tensor([9, 1, 2])).backward()
    assert torch.isfinite(net.heads.weight.grad).all()


def test_a_head_without_an_example_in_the_batch_has_no_gradient():
    net = flat_net(16, [2, 3, 10])
    F.cross_entropy(net(images(4, side=4), torch.tensor([0, 2, 2, 0])), torch.tensor([0, 9, 1, 1])).backward()
    first, second, third = net.heads.weight.grad.split([2, 3, 10])
    assert first.abs().sum() > 0
    assert third.abs().sum() > 0
    assert (second == 0).all()
    assert (net.heads.bias.grad[2:5] == 0).all()


def test_head_biases_start_at_zero():
    assert (network("conv", image_shape=(1, 22, 22), num_classes=[2, 3], dropout=0.0).heads.bias == 0).all()


def test_probabilities_are_those_of_the_head_alone_and_sum_to_one():
    net = flat_net(16, [2, 10])
    pixels = images(5, side=4)
    both = net(pixels, torch.zeros(5, dtype=torch.int64))
    probabilities = net.probabilities(pixels, 0)
    assert probabilities.shape == (5, 2)
    assert torch.allclose(probabilities, both[:, :2].softmax(dim=1))


def test_probabilities_do_not_depend_on_dropout_or_on_the_rest_of_the_batch():
    net = network("wrn10_1", image_shape=(1, 22, 22), num_classes=[3], dropout=0.5).train()
    pixels = images(6)
    together = net.probabilities(pixels, 0)
    assert torch.equal(together, net.probabilities(pixels, 0))
    assert torch.allclose(together[:1], net.probabilities(pixels[:1], 0), atol=1e-5)


def test_normalise_takes_black_and_white_to_minus_and_plus_two():
    pixels = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(-1, 4, 5, 3).contiguous()
    ready = normalise(pixels)
    assert ready.shape == (2, 3, 4, 5)
    assert ready[:, 0, 0, 0].tolist() == pytest.approx([-2, 2])
    assert ready.is_contiguous(memory_format=torch.channels_last)


# ---- backbones


@pytest.mark.parametrize("shape", [(1, 22, 22), (3, 32, 32), (3, 66, 70)], ids=str)
def test_pooling_before_relu_equals_the_plain_order(shape):
    torch.manual_seed(0)
    net = SmallConv(shape)
    pixels = torch.randn(4, *shape)

    def plain(x):
        x = F.max_pool2d(F.relu(net.conv1(x)), net.pool_size)
        x = F.max_pool2d(F.relu(net.norm2(net.conv2(x))), net.pool_size)
        return F.max_pool2d(F.relu(net.norm3(net.conv3(x))), net.pool_size).flatten(1)

    assert torch.equal(net(pixels), plain(pixels))
    assert net(pixels).shape == (4, net.num_features)


def test_large_images_are_pooled_by_three():
    assert SmallConv((3, 63, 63)).pool_size == 2
    assert SmallConv((3, 64, 64)).pool_size == 3
    assert SmallConv((3, 84, 84)).num_features == 320


@pytest.mark.parametrize(("height", "width"), [(21, 28), (28, 21), (8, 8)])
def test_images_too_small_for_the_conv_net_are_a_mistake(height, width):
    with pytest.raises(UserError, match=f"22 x 22 pixels or more, got {height} x {width}"):
        network("conv", image_shape=(1, height, width), num_classes=[2], dropout=0.0)


@pytest.mark.parametrize("model", ["wrn12_4", "wrn4_1", "wrn16_0", "resnet18_0", "resnet18", "wrn16", ""])
def test_an_unknown_model_is_a_mistake(model):
    with pytest.raises(UserError, match="model"):
        network(model, image_shape=(3, 32, 32), num_classes=[2], dropout=0.0)


def test_wrn_has_a_shortcut_convolution_only_where_the_width_changes():
    net = network("wrn16_4", image_shape=(3, 32, 32), num_classes=[2], dropout=0.0)
    assert [block.shortcut is not None for block in net.backbone.blocks] == [True, False] * 3
    thin = network("wrn16_1", image_shape=(3, 32, 32), num_classes=[2], dropout=0.0)
    assert [block.shortcut is not None for block in thin.backbone.blocks] == [False, False, True, False, True, False]


def test_wrn_drops_units_in_training_only():
    backbone = network("wrn10_1", image_shape=(1, 16, 16), num_classes=[2], dropout=0.5).backbone
    for norm in (module for module in backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.momentum = 0.0  # so that a pass in training leaves no trace
    pixels = torch.randn(4, 1, 16, 16)
    assert not torch.equal(backbone.train()(pixels), backbone(pixels))
    assert torch.equal(backbone.eval()(pixels), backbone(pixels))


def test_wrn_convolutions_start_he_normal_over_the_fan_out():
    backbone = network("wrn16_4", image_shape=(3, 32, 32), num_classes=[2], dropout=0.0).backbone
    for module in backbone.modules():
        if isinstance(module, torch.nn.Conv2d) and module.weight.numel() > 10_000:
            fan_out = module.weight.numel() / module.in_channels
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


def test_a_resnet_block_is_a_convolution_relu_and_then_batch_normalisation():
    backbone = network("resnet18_4", image_shape=(3, 32, 32)).backbone.train()
    assert [tuple(block.conv.weight.shape[:2]) for block in backbone.blocks] == [
        (4, 4),
        (4, 4),
        (8, 4),
        (8, 8),
        (16, 8),
        (16, 16),
        (32, 16),
        (32, 32),
    ]
    block, x = backbone.blocks[2], torch.randn(5, 4, 12, 12)
    main = block.norm1(F.relu(F.conv2d(x, block.conv.weight, stride=2, padding=1)))
    both = main + F.conv2d(x, block.shortcut.weight, stride=2)
    assert torch.allclose(block(x), block.norm2(F.relu(both)), atol=1e-5)
    assert [block.shortcut is not None for block in backbone.blocks] == [False, False] + [True, False] * 3
    pixels = torch.randn(2, 3, 32, 32)
    features = backbone.blocks(F.relu(backbone.norm(backbone.stem(pixels))))
    assert features.shape == (2, 32, 4, 4)
    assert torch.allclose(backbone(pixels), features.flatten(2).mean(2), atol=1e-4)


def test_resnet_drops_units_in_training_only():
    backbone = network("resnet18_2", image_shape=(1, 16, 16), dropout=0.5).backbone
    pixels = torch.randn(4, 1, 16, 16)
    torch.manual_seed(0)
    first = backbone.train()(pixels)
    assert not torch.equal(first, backbone(pixels))
    assert torch.equal(backbone.eval()(pixels), backbone(pixels))


def test_images_too_small_for_the_resnet_are_a_mistake():
    with pytest.raises(UserError, match="9 x 9 pixels or more, got 8 x 12"):
        network("resnet18_2", image_shape=(1, 8, 12))


# ---- a zoo that was grown


def test_a_task_is_known_by_its_name_or_its_id_but_not_by_another_tasks():
    names = ("1", "2", "2.0", "3")
    tasks = [{"task_id": i, "name": name, "classes": ["a", "b"], "fingerprint": ""} for i, name in enumerate(names)]
    zoo = SavedZoo(ZooInfo(model="conv", image_shape=(1, 22, 22), tasks=tasks), [])
    assert [zoo.task_id(text) for text in ("0", "2.0", "3")] == [0, 2, 3]
    for text in ("1", "2", "fish"):
        with pytest.raises(UserError, match=rf"--task: expected the name or id of one of 0 \(1\), .*, got '{text}'"):
            zoo.task_id(text)
    for task_id in (-1, 4):
        with pytest.raises(ValueError, match=rf"task_id: expected 0\.\.3, got {task_id}"):
            zoo.predict(images(2), task_id)
    assert zoo.predict(images(2), 3).tolist() == [[0.5, 0.5]] * 2
