"""Prompts: sentences, order of features, pooling, and when they are computed anew."""

import pytest
import torch
from conftest import tiny_clip

from sowa.core.config import PromptConfig
from sowa.errors import InputError
from sowa.model.backbone import Backbone
from sowa.model.prompts import Prompts, sentences

TWO_BY_TWO = PromptConfig(
    class_names=("bottle", "metal nut"),
    normal_templates=("{}", "flawless {}"),
    abnormal_templates=("damaged {}", "{} with a flaw"),
    length=3,
)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone(tiny_clip(), "tiny")


def prompts_for(backbone: Backbone, config: PromptConfig = TWO_BY_TWO) -> Prompts:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Prompts(config, backbone).eval()


def test_the_published_prompts_are_one_class_agnostic_pair():
    words = "X " * 12
    assert sentences(PromptConfig()) == [f"{words}object.", f"{words}damaged object."]


def test_sentences_have_states_outermost_then_classes_then_templates():
    assert sentences(TWO_BY_TWO) == [
        "X X X bottle.",
        "X X X flawless bottle.",
        "X X X metal nut.",
        "X X X flawless metal nut.",
        "X X X damaged bottle.",
        "X X X bottle with a flaw.",
        "X X X damaged metal nut.",
        "X X X metal nut with a flaw.",
    ]


def test_each_template_of_each_class_has_a_context_of_its_own(backbone):
    prompts = prompts_for(backbone)
    assert prompts.context_normal.shape == prompts.context_abnormal.shape == (2, 2, 3, 64)
    with torch.no_grad():
        before = prompts.encode(backbone)
        prompts.context_abnormal[1, 0] *= -5  # "damaged metal nut", the seventh sentence
        moved = (prompts.encode(backbone) - before).abs().amax(dim=1) > 1e-4
    assert moved.tolist() == [False] * 6 + [True, False]


def test_contexts_start_small_and_different(backbone):
    prompts = prompts_for(backbone, PromptConfig())
    for context in (prompts.context_normal, prompts.context_abnormal):
        assert context.shape == (1, 1, 12, 64)
        assert context.std().item() == pytest.approx(0.02, rel=0.1)
    assert not torch.equal(prompts.context_normal, prompts.context_abnormal)


def test_a_context_of_the_words_own_embeddings_gives_clips_own_text_features(backbone):
    prompts = prompts_for(backbone)
    tokens = backbone.tokenize(sentences(TWO_BY_TWO))
    with torch.no_grad():
        letter = backbone.embed_tokens(tokens)[0, 1]
        prompts.context_normal.copy_(letter.expand_as(prompts.context_normal))
        prompts.context_abnormal.copy_(letter.expand_as(prompts.context_abnormal))
        expected = backbone.text.encode_text(tokens)
        torch.testing.assert_close(prompts.encode(backbone), expected, atol=1e-5, rtol=1e-5)


def test_features_come_normal_first_for_every_class_and_template(backbone):
    prompts = prompts_for(backbone)
    with torch.no_grad():
        features = prompts.encode(backbone)
    assert features.shape == (2 * 2 * 2, 32)


def test_pooling_takes_features_in_the_order_of_the_sentences(backbone):
    prompts = prompts_for(
        backbone, PromptConfig(("bottle", "cable", "nut"), ("{}",) * 2, ("{}",) * 2, text_linear=False)
    )
    class_text = prompts.pool(torch.arange(12.0)[:, None].expand(12, 32))
    assert class_text[..., 0].tolist() == [[0.5, 6.5], [2.5, 8.5], [4.5, 10.5]]  # (class, state)


def test_pooling_is_the_mean_over_templates_after_the_linear_layer(backbone):
    prompts = prompts_for(backbone)
    features = torch.randn(8, 32)
    with torch.no_grad():
        class_text = prompts.pool(features)
        linear = features @ prompts.linear.weight.T + prompts.linear.bias
    assert class_text.shape == (2, 2, 32)
    for index in range(2):
        for state in range(2):
            first = state * 4 + index * 2
            torch.testing.assert_close(class_text[index, state], (linear[first] + linear[first + 1]) / 2)


def test_the_linear_layer_can_be_left_out(backbone):
    prompts = Prompts(PromptConfig(text_linear=False), backbone)
    assert prompts.linear is None
    assert {name for name, _ in prompts.named_parameters()} == {"context_normal", "context_abnormal"}
    features = torch.randn(2, 32)
    assert torch.equal(prompts.pool(features)[0], features)


def test_what_isnt_learned_isnt_saved(backbone):
    names = {"context_normal", "context_abnormal", "linear.weight", "linear.bias"}
    assert prompts_for(backbone).state_dict().keys() == names


def test_text_features_are_computed_once_while_nothing_changes(backbone):
    prompts = prompts_for(backbone)
    with torch.no_grad():
        first = prompts(backbone)
        assert prompts(backbone) is first
    with torch.inference_mode():
        assert prompts(backbone) is first
    torch.testing.assert_close(first, prompts.pool(prompts.encode(backbone)).detach())


@pytest.mark.parametrize("name", ["context_normal", "context_abnormal", "linear.weight", "linear.bias"])
@pytest.mark.parametrize("way", ["in place", ".data", "load_state_dict"])
def test_text_features_follow_a_changed_weight(backbone, name, way):
    prompts = prompts_for(backbone)
    with torch.no_grad():
        before = prompts(backbone)
        weight = prompts.get_parameter(name)
        change = torch.linspace(-1, 1, weight.shape[-1])  # a constant would vanish in the LayerNorm
        if way == "in place":
            weight.add_(change)
        elif way == ".data":
            weight.data[:] = weight.data + change
        else:
            state = prompts.state_dict()
            prompts.load_state_dict({**state, name: state[name] + change})
        after = prompts(backbone)
        assert (after - before).abs().max() > 1e-3
        torch.testing.assert_close(after, prompts.pool(prompts.encode(backbone)))


def test_in_training_text_features_are_computed_anew_and_carry_gradients(backbone):
    prompts = prompts_for(backbone)
    with torch.no_grad():
        cached = prompts(backbone)
    first, second = prompts(backbone), prompts(backbone)
    assert first is not second
    assert first.requires_grad
    torch.testing.assert_close(first.detach(), cached)
    (first.sum() + second.square().sum()).backward()
    assert prompts.context_normal.grad.abs().max() > 0
    assert prompts.context_abnormal.grad.abs().max() > 0


def test_a_prompt_that_is_too_long_is_refused(backbone):
    with pytest.raises(InputError, match="has 81 tokens, allowed are 77; shorten it"):
        Prompts(PromptConfig(length=77), backbone)
    Prompts(PromptConfig(length=72), backbone)


@pytest.mark.parametrize(
    "wrong",
    [
        {"class_names": ()},
        {"class_names": ("a", "a")},
        {"normal_templates": ()},
        {"abnormal_templates": ("broken {}", "torn {}")},
    ],
)
def test_prompts_without_a_pair_for_every_class_are_refused(wrong):
    with pytest.raises(InputError, match="needed"):
        PromptConfig(**wrong)
