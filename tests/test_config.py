"""Configuration: defaults are the paper's, what is wrong is refused, plain values go there and back."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest

from sowa.core.config import AdapterConfig, ModelConfig, PromptConfig, from_dict, to_dict
from sowa.errors import InputError
from sowa.evaluation.config import EvaluationConfig
from sowa.training.config import TrainConfig

KINDS = [AdapterConfig, PromptConfig, ModelConfig, TrainConfig, EvaluationConfig]


def test_the_defaults_are_the_paper_s() -> None:
    assert AdapterConfig().window_size == 12
    assert PromptConfig().length == 12
    assert TrainConfig().learning_rate == 1e-3
    assert ModelConfig().temperature == 0.07
    assert ModelConfig().sigma == 4.0
    assert ModelConfig().levels is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_config_is_frozen(kind: Any) -> None:
    config = kind()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, dataclasses.fields(config)[0].name, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_config_goes_through_json_and_back(kind: Any) -> None:
    assert from_dict(kind, json.loads(json.dumps(to_dict(kind())))) == kind()


def test_nested_values_that_aren_t_defaults_survive_json() -> None:
    config = ModelConfig(
        levels=(1, 3),
        adapter=AdapterConfig(window_size=4, value_only=False),
        prompt=PromptConfig(class_names=("nut", "bolt"), length=3),
        sigma=2.5,
    )
    assert from_dict(ModelConfig, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize("name", ["map_weight", "self_weight"])
@pytest.mark.parametrize("value", [-0.5, float("inf"), float("nan")])
def test_a_weight_of_the_prompts_is_a_number_of_0_and_more(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"{name.replace('_', ' ')} is {value}, allowed is 0 and more"):
        PromptConfig(**{name: value})


@pytest.mark.parametrize("kind", [AdapterConfig, PromptConfig, ModelConfig, TrainConfig])
def test_an_unknown_field_is_refused_by_name(kind: Any) -> None:
    with pytest.raises(InputError, match="nonsense"):
        from_dict(kind, {"nonsense": 1})


def test_an_unknown_field_is_refused_by_name_further_down_too() -> None:
    with pytest.raises(InputError, match=r"adapter\.nonsense"):
        from_dict(ModelConfig, {"adapter": {"nonsense": 1}})


def test_refusing_unknown_fields_doesn_t_depend_on_what_was_called_before() -> None:
    code = (
        "from sowa.core.config import *\nfrom sowa.errors import InputError\n"
        "from sowa.training.config import TrainConfig\n"
        "from_dict(ModelConfig, {})\n"
        "try:\n    from_dict(TrainConfig, {'nonsense': 1})\nexcept InputError:\n    print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "refused\n"


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (AdapterConfig, {"window_size": "wide"}),
        (AdapterConfig, {"depth": 1.5}),
        (ModelConfig, {"levels": ["first"]}),
        (ModelConfig, {"sigma": None}),
        (ModelConfig, {"adapter": []}),
        (PromptConfig, {"class_names": "nut"}),
        (TrainConfig, {"protocol": "secret"}),
        (TrainConfig, {"epochs": []}),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_in_one_line_that_names_the_field(kind: Any, values: Any) -> None:
    with pytest.raises(InputError, match=next(iter(values))) as caught:
        from_dict(kind, values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (AdapterConfig, {"window_size": 0}),
        (AdapterConfig, {"depth": -1}),
        (AdapterConfig, {"heads": 0}),
        (AdapterConfig, {"position_width": 0}),
        (AdapterConfig, {"dropout": 1.0}),
        (AdapterConfig, {"dropout": -0.1}),
        (PromptConfig, {"class_names": ()}),
        (PromptConfig, {"class_names": ("nut", "nut")}),
        (PromptConfig, {"normal_templates": ()}),
        (PromptConfig, {"normal_templates": ("{}", "good {}")}),
        (TrainConfig, {"epochs": 0}),
        (TrainConfig, {"batch_size": 0}),
        (TrainConfig, {"checkpoint_every": 0}),
        (TrainConfig, {"mosaic": 1.1}),
        (TrainConfig, {"mosaic": -0.1}),
        (TrainConfig, {"validation_fraction": 0.0}),
        (TrainConfig, {"validation_fraction": 1.0}),
        (TrainConfig, {"learning_rate": 0.0}),
        (EvaluationConfig, {"k_shots": ()}),
        (EvaluationConfig, {"k_shots": (-1,)}),
        (EvaluationConfig, {"seeds": ()}),
        (EvaluationConfig, {"seeds": (0, -1)}),
        (EvaluationConfig, {"batch_size": 0}),
        (EvaluationConfig, {"bootstrap": -1}),
    ],
)
def test_a_value_out_of_range_is_refused(kind: Any, values: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        kind(**values)
    with pytest.raises(InputError):
        from_dict(kind, values)


def test_values_at_the_edge_of_their_range_are_allowed() -> None:
    AdapterConfig(window_size=1, dropout=0.0)
    TrainConfig(mosaic=0.0, epochs=1, batch_size=1)
    TrainConfig(mosaic=1.0)
    EvaluationConfig(k_shots=(0,), seeds=(0,), batch_size=1)
