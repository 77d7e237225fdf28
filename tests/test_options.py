"""Options of trainings on the command line and in files."""

import pytest

from hfvision.engine.options import parse_options
from hfvision.tasks.super_resolution.config import SuperResTrainingConfig


def parsed(*arguments: str) -> SuperResTrainingConfig:
    return parse_options(SuperResTrainingConfig, list(arguments), "train", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data", "a", "b", "c", "--crop", "32"],
        ["--data", "a", "--data", "b", "c", "--crop", "32"],
        ["--data", "a", "b", "--crop=32", "--data=c"],
    ],
)
def test_a_repeated_option_adds_to_a_list(arguments):
    config = parsed(*arguments)
    assert config.data == ["a", "b", "c"]
    assert config.crop == 32


def test_the_command_line_goes_before_the_file(tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text("data: [x, y]\ncrop: 24\nvalidation_data: [v]\n")
    config = parsed("--config", str(file), "--data", "a", "--data", "b")
    assert (config.data, config.crop, config.validation_data) == (["a", "b"], 24, ["v"])


@pytest.mark.parametrize("value", ["nan", "inf", "1e999"])
def test_numbers_that_are_not_finite_are_refused(tmp_path, value):
    file = tmp_path / "options.yaml"
    file.write_text(f"data: [x]\nlearning_rate: {value}\n")
    for words in (["--data", "x", f"--learning-rate={value}"], ["--config", str(file)]):
        with pytest.raises(ValueError, match=r"--learning-rate: .*(not a finite|expected a) number"):
            parsed(*words)
