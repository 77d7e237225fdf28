"""Evaluation of robustness: figures, interruption and resuming, models without gradients, pictures, command line."""

import json

import pytest
import torch
from PIL import Image
from robustness_toy import EPSILON, NAMES, PROCESSOR, SPLITS, TEST, Disguised, trained

from hfvision.cli.main import main
from hfvision.robustness.corruptions import CORRUPTIONS
from hfvision.robustness.evaluate import choose, evaluate_robustness
from hfvision.robustness.summary import compare
from hfvision.tasks.classification.evaluate import evaluate_classifier

OPTIONS = {"epsilon": EPSILON, "attack": "pgd", "count": 40, "batch_size": 20, "names": NAMES}


@pytest.fixture(scope="module")
def record() -> dict:
    return evaluate_robustness(trained(), TEST, PROCESSOR, **OPTIONS)


def comparable(record: dict) -> dict:
    return {
        name: value
        for name, value in record.items()
        if name not in ("seconds", "environment", "compared", "record_version")
    }


def test_figures(record):
    assert json.loads(json.dumps(record)) == record
    forty = torch.utils.data.Subset(TEST, range(40))
    assert record["clean"]["accuracy"] == evaluate_classifier(trained(), forty, PROCESSOR)["top1"]
    low, high = record["robust"]["interval"]
    assert low <= record["robust"]["accuracy"] <= high
    assert record["robust"] == record["attacks"]["pgd"]
    assert record["robust"]["accuracy"] < record["clean"]["accuracy"] - 0.4
    curve = [point["accuracy"] for point in record["curve"]]
    assert curve == sorted(curve, reverse=True)
    assert curve[0] == record["clean"]["accuracy"]
    assert curve[-1] == 0
    assert [point["epsilon"] for point in record["curve"]][:2] == [0, EPSILON / 8]
    corruptions = record["corruptions"]
    assert tuple(corruptions["accuracy"]) == CORRUPTIONS
    assert 0.2 < corruptions["mean"] < 0.9
    assert len(record["masking"]) == 5
    assert record["masked"] is False
    assert record["complete"] is True
    assert record["notes"] == ["The attack changes the 14×14 pixels that the image processor makes, after resizing."]


def test_the_hardened_model_withstands_more(record):
    hardened = evaluate_robustness(trained(hardened=True), TEST, PROCESSOR, **OPTIONS)
    compared = compare(hardened, record)
    assert compared["robust"]["difference"] > 0.1
    assert compared["robust"]["model"] == hardened["robust"]["accuracy"]
    with pytest.raises(ValueError, match="attack is 'pgd' and 'fgsm'"):
        compare(hardened, record | {"attack": "fgsm"})


def test_an_interrupted_evaluation_goes_on_to_the_same_record(record, tmp_path):
    path, seen = tmp_path / "record.json", []

    def stop(logits):
        seen.append(len(logits))
        if len(seen) == 300:
            raise KeyboardInterrupt
        return logits

    state = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        evaluate_robustness(Disguised(trained(), after=stop), TEST, PROCESSOR, path=path, **OPTIONS)
    assert torch.equal(torch.get_rng_state(), state)
    partial = json.loads(path.read_text())
    assert partial["complete"] is False
    assert 0 < partial["clean"]["images"] < 40
    with pytest.raises(ValueError, match="already exists"):
        evaluate_robustness(trained(), TEST, PROCESSOR, path=path, **OPTIONS)
    with pytest.raises(ValueError, match="seed is 0, here it is 1"):
        evaluate_robustness(trained(), TEST, PROCESSOR, path=path, resume=True, seed=1, **OPTIONS)
    with pytest.raises(ValueError, match="fingerprint"):
        evaluate_robustness(trained(hardened=True), TEST, PROCESSOR, path=path, resume=True, **OPTIONS)
    seen.clear()
    counted = Disguised(trained(), after=lambda logits: seen.append(len(logits)) or logits)
    again = evaluate_robustness(counted, TEST, PROCESSOR, path=path, resume=True, **OPTIONS)
    assert comparable(again) == comparable(record) | {"fingerprint": again["fingerprint"]}
    written = json.loads(path.read_text())
    assert comparable(written) == comparable(again)
    assert written["seconds"] > partial["seconds"]
    seen.clear()
    finished = evaluate_robustness(counted, TEST, PROCESSOR, path=path, resume=True, **OPTIONS)
    assert comparable(finished) == comparable(written)
    assert len(seen) == 1  # nothing but the question whether there are gradients


def test_a_model_without_gradients_is_attacked_through_its_parent():
    model = Disguised(trained(), after=lambda logits: logits.detach().round(decimals=1))
    options = OPTIONS | {"epsilon": 0.3, "attack": "worst_case"}
    record = evaluate_robustness(model, TEST, PROCESSOR, transfer_from=trained(), **options)
    assert list(record["attacks"]) == ["transfer_ce", "transfer_margin", "square"]
    assert record["attacks"]["transfer_margin"]["accuracy"] < record["clean"]["accuracy"] - 0.4
    assert record["masked"] is record["masking"] is None
    assert "no gradients: it was attacked with images made on the float model" in " ".join(record["notes"])
    assert record["curve"][-1]["accuracy"] < 0.1
    alone = evaluate_robustness(model, TEST, PROCESSOR, **options | {"count": 8})
    assert list(alone["attacks"]) == ["square"]
    assert "curve" not in alone
    assert "black-box attack alone, which is weaker" in " ".join(alone["notes"])


def test_images_sorted_by_class_are_taken_evenly():
    assert choose(torch.arange(10).repeat_interleave(30), 10).tolist() == [round(i * 299 / 9) for i in range(10)]
    assert choose(torch.tensor([3, 1, 2, 0]), 3).tolist() == [0, 1, 2]
    assert choose(torch.tensor([3, 1]), 5).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": 8}, "above 1"),
        ({"epsilon": "8%"}, "'8%'"),
        ({"epsilon": 0}, "nothing to attack"),
        ({"attack": "deepfool"}, "'deepfool': choose one of worst_case"),
        ({"count": 0}, "1 or more, got 0 and 20"),
        ({"names": ["cat", "dog"]}, "knows 10 classes"),
    ],
)
def test_bad_input_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        evaluate_robustness(trained(), TEST, PROCESSOR, **OPTIONS | change)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two models, `standard` and `masked`, which is the same with huge logits, and `few.parquet`."""
    folder = tmp_path_factory.mktemp("robustness")
    for name in ("standard", "masked"):
        trained().save_pretrained(folder / name)
        PROCESSOR.save_pretrained(folder / name)
    model = type(trained()).from_pretrained(folder / "masked")
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter *= 1e4
    model.save_pretrained(folder / "masked")
    SPLITS["test"].select(range(40)).to_parquet(folder / "few.parquet")
    return folder


def run(folder, model, *options) -> int:
    data = ["--data", folder / "few.parquet", "--split", "train", "--epsilon", EPSILON, "--attack", "pgd"]
    return main(["evaluate", "robustness", str(folder / model), *map(str, [*data, *options])])


def test_command_line_compares_draws_and_calls_a_masked_model_masked(folder, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--compare", folder / "standard", "--out", out, "--strict"]
    assert run(folder, "masked", *options) == 1
    printed = capsys.readouterr().out
    assert "MASKED" in printed
    assert "SUSPICIOUS  black_box" in printed
    assert "compared with" in printed
    record = json.loads((out / "robustness.json").read_text())
    assert record["masked"] is True
    assert (
        record["compared"]["robust"]["other"] == json.loads((out / "compared.json").read_text())["robust"]["accuracy"]
    )
    assert "environment" in record
    for name in ("attack", "epsilon", "loss"):
        with Image.open(out / f"{name}.png") as picture:
            assert min(picture.size) > 200
    assert run(folder, "masked", *options) == 2
    assert "use --resume to continue it, or --force" in capsys.readouterr().err
    assert run(folder, "masked", *options[:-1], "--resume", "--json") == 0
    assert comparable(json.loads(capsys.readouterr().out)) == comparable(record)


def test_command_line_says_what_is_wrong_in_one_line(folder, tmp_path, capsys):
    for options, message in (
        (["--epsilon", "8"], "above 1"),
        (["--split", "test"], "no split 'test'"),
        (["--resume"], "--resume needs --out"),
        (["--compare", folder / "standard"], "the model itself"),
        (["--out", folder / "few.parquet"], "is a file"),
    ):
        assert run(folder, "standard", *options) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hfvision: error: ")]
        assert len(lines) == 1
        assert message in lines[0]
