"""Cards say what is recorded and nothing else, and what they tell to paste works."""

import html
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from datasets import DatasetDict
from huggingface_hub import ModelCard, parse_eval_result_entries
from markdown_it import MarkdownIt

from hfvision import (
    CNNConfig,
    CNNForImageClassification,
    ImageClassificationProcessor,
    SRGANConfig,
    SRGANForImageSuperResolution,
    SRGANImageProcessor,
    list_checkpoints,
    sample_dataset,
    sample_photos,
)
from hfvision.cli.main import main
from hfvision.publishing.cards.write import card_files
from hfvision.records import read_record
from hfvision.tasks.super_resolution.baselines import interpolations, network
from hfvision.tasks.super_resolution.evaluate import measure_sets

CARDS = Path(__file__).parents[1] / "model_cards"
# What a card is made of.
PLAIN_TAGS = {"p", "h1", "h2", "pre", "code", "table", "thead", "tbody", "tr", "th", "td"}
# What a value that is not there, or a template that was not filled, would leave.
HOLES = re.compile(r"\bNone\b(?! of)|\bnan\b|\bTODO\b|\bTBD\b|More Information|\{[a-z_]+(?:[.\[}!]|:(?! ))")


def python_of(card: str) -> str:
    return "\n".join(re.findall("```python\n(.*?)```", card, re.DOTALL))


def flat(card: str) -> str:
    """The card in one line."""
    return " ".join(card.split())


def without_bibtex(card: str) -> str:
    return re.sub("```bibtex.*?```", "", card, flags=re.DOTALL)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "clothes"
    splits = sample_dataset("fashion_mnist")
    DatasetDict(train=splits["train"].select(range(400)), test=splits["test"].select(range(100))).save_to_disk(folder)
    return folder


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training's folder, with an evaluation of its robustness beside it."""
    out = tmp_path_factory.mktemp("runs") / "clothes-cnn"
    size = ["--model", "cnn:tiny", "--num-channels", "1", "--image-size", "28"]
    options = [*size, "--epochs", "1", "--batch-size", "50", "--validation", "0.1"]
    assert main(["train", "classifier", "--data", str(data), "--out", str(out), *options]) == 0
    attack = ["--epsilon", "8/255", "--attack", "fgsm", "-n", "10"]
    assert main(["evaluate", "robustness", str(out), "--data", str(data), *attack, "--out", str(out)]) == 0
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    folder = tmp_path / trained.name
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("checkpoints"))
    return folder


@pytest.mark.parametrize("name", list_checkpoints())
def test_cards_of_shipped_models_are_those_of_their_records(name):
    folder = list_checkpoints()[name]
    files = card_files(folder)
    assert (folder / "README.md").read_text(encoding="utf-8") == files["README.md"]
    there = {path.relative_to(CARDS / name).as_posix() for path in (CARDS / name).rglob("*") if path.is_file()}
    assert there == set(files), "run scripts/make_cards.py"
    for file, text in files.items():
        assert (CARDS / name / file).read_text(encoding="utf-8") == text, "run scripts/make_cards.py"
    assert not HOLES.search(without_bibtex(files["README.md"]))
    assert f"({name}/README.md)" in (CARDS / "README.md").read_text(encoding="utf-8")


def test_index_lists_exactly_the_shipped_models():
    assert {path.parent.name for path in CARDS.glob("*/README.md")} == set(list_checkpoints())


@pytest.mark.parametrize("name", list_checkpoints())
def test_the_hub_reads_the_recorded_figures(name):
    record, files = read_record(list_checkpoints()[name]), card_files(list_checkpoints()[name])
    card = ModelCard(files.pop("README.md")).data
    assert card.license == record["about"]["licence"]
    found = {(entry.dataset_name, entry.metric_type, entry.metric_value) for entry in card.eval_results}
    entries = [parse_eval_result_entries(yaml.safe_load(text))[0] for text in files.values()]
    results = record["evaluation"]["results"]
    if name.startswith("sr-"):
        sets = results[name]["sets"]
        assert {(label, "psnr", figures["psnr"]) for label, figures in sets.items()} <= found
        expected = {(f"eugenesiow/{label}", sets[label]["psnr"]) for label in ("Set5", "Set14")}
    else:
        measured = [("accuracy", figures["top1"]) for figures in results.values()]
        if "robustness" in record:
            measured.append(("robust_accuracy", record["robustness"]["robust"]["accuracy"]))
        data = record["evaluation"]["data"]
        assert found == {(data, *entry) for entry in measured}
        ids = [each["id"] for each in record["about"]["data"] if "id" in each]
        assert bool(ids) is not name.startswith("imagenet-"), "a sample is no evaluation on the data set of the Hub"
        expected = {(dataset, results["none"]["top1"]) for dataset in ids}
        assert all("JPEG re-encoded" in entry.notes for entry in entries)
    assert {(entry.dataset_id, entry.value) for entry in entries} == expected


@pytest.mark.parametrize("name", list_checkpoints())
def test_what_a_shipped_card_tells_to_paste_works(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(sample_photos()["cat"], "photo.jpg")
    exec(python_of(card_files(list_checkpoints()[name])["README.md"]), {})
    assert not name.startswith("sr-") or list(tmp_path.glob("photo_x*.png"))


def test_weights_made_from_shared_alike_photographs_say_so():
    card = card_files(list_checkpoints()["sr-tiny-x2"])["README.md"]
    assert "CC BY-SA" in card
    assert "shared alike" in flat(card)


def test_card_of_a_training_has_its_figures_command_and_cost(run, data):
    record = read_record(run)
    card = card_files(run)["README.md"]
    words = flat(card)
    assert record["training"]["command"] in card
    assert "clothes" in card
    for split in ("validation", "test"):
        assert f"{record[split]['top1']:.2%}" in card
        assert f"{record[split]['images']:,} {split} images" in words
    assert "360 images, 1 epoch, seed 0" in words
    assert "40 other images were used to select the weights" in words
    assert "Cost: " in words
    entries = ModelCard(card).data.eval_results
    assert [entry.metric_value for entry in entries if entry.metric_type == "accuracy"] == [
        record["validation"]["top1"],
        record["test"]["top1"],
    ]
    assert not HOLES.search(without_bibtex(card))


def test_card_says_where_the_newest_weights_were_kept(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    record = json.loads((run / "record.json").read_text())
    record["training"]["config"]["keep"] = "last"
    (tmp_path / "run/record.json").write_text(json.dumps(record))
    words = flat(card_files(tmp_path / "run")["README.md"])
    assert "40 other images were used to monitor its progress; the newest weights were kept" in words
    assert "select the weights" not in words


def test_robustness_states_norm_radius_images_attack_and_compute(run):
    part = read_record(run)["robustness"]
    card = card_files(run)["README.md"]
    section = flat(card.split("## Robustness")[1].split("\n## ")[0])
    for fact in ("L∞ ≤ 8/255", "10 images", "fgsm", "minutes on", "CPU thread", f"{part['robust']['accuracy']:.2%}"):
        assert fact in section
    (entry,) = [e for e in ModelCard(card).data.eval_results if e.metric_type == "robust_accuracy"]
    assert entry.metric_value == part["robust"]["accuracy"]
    assert entry.metric_args["epsilon"] == part["epsilon"]
    assert "not measured" not in flat(card)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"masked": True}, "unreliable"), ({"complete": False}, "not finished"), ({"notes": ["Mind."]}, "Mind.")],
)
def test_doubts_about_robustness_are_told(run, change, sentence):
    path = run / "robustness.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert sentence in flat(card_files(run)["README.md"])


def test_without_robustness_the_card_says_that_it_is_not_measured(run):
    (run / "robustness.json").unlink()
    card = card_files(run)["README.md"]
    assert "## Robustness" not in card
    assert "not measured" in flat(card)


def test_an_evaluation_beside_the_model_comes_before_that_of_its_training(run, data):
    assert main(["evaluate", "classifier", str(run), "--data", str(data), "--tta", "flip", "--out", str(run)]) == 0
    record = read_record(run)
    entries = ModelCard(card_files(run)["README.md"]).data.eval_results
    (value,) = [entry.metric_value for entry in entries if entry.metric_type == "accuracy"]
    assert value == json.loads((run / "evaluation.json").read_text())["top1"] == record["evaluation"]["top1"]


@pytest.fixture
def bare_classifier(tmp_path) -> Path:
    folder = tmp_path / "bare"
    CNNForImageClassification(CNNConfig.from_preset("tiny", num_labels=3)).save_pretrained(folder)
    ImageClassificationProcessor().save_pretrained(folder)
    return folder


def test_a_folder_without_a_record_gets_a_card_without_figures(bare_classifier, tmp_path, monkeypatch):
    assert main(["card", str(bare_classifier)]) == 0
    card = (bare_classifier / "README.md").read_text(encoding="utf-8")
    assert "Nothing about its training or its quality is recorded." in flat(card)
    assert not re.search(r"## (Figures|Training|Robustness|Compression)", card)
    assert ModelCard(card).data.eval_results is None
    assert not HOLES.search(without_bibtex(card))
    assert not (bare_classifier / ".eval_results").exists()
    monkeypatch.chdir(tmp_path)
    shutil.copy(sample_photos()["cat"], "photo.jpg")
    exec(python_of(card), {})


def test_upscaler_evaluated_beside_others_shows_all_and_indexes_its_own(tmp_path):
    folder = tmp_path / "up"
    config = SRGANConfig.from_preset("fast-tiny", scale=2, hidden_size=4, block_widths=[[4]])
    model = SRGANForImageSuperResolution(config).eval()
    model.save_pretrained(folder)
    SRGANImageProcessor().save_pretrained(folder)
    photos = tmp_path / "Set5"
    photos.mkdir()
    shutil.copy(sample_photos()["grapefruit"], photos)
    quality = measure_sets([*interpolations(2), network(str(folder), model)], {"Set5": photos})
    results = {name: {"scale": 2, "sets": sets} for name, sets in quality["results"].items()}
    (folder / "superres.json").write_text(json.dumps({"results": results}))
    row = read_record(folder)["evaluation"]["results"][str(folder)]
    files = card_files(folder)
    card = files["README.md"]
    assert f"{row['sets']['Set5']['psnr']:.2f} / {row['sets']['Set5']['ssim']:.4f}" in card
    assert "bicubic ×2" in card
    assert str(tmp_path) not in card
    values = {entry.metric_type: entry.metric_value for entry in ModelCard(card).data.eval_results}
    assert values["psnr"] == row["sets"]["Set5"]["psnr"]
    (entry,) = parse_eval_result_entries(yaml.safe_load(files[".eval_results/set5.yaml"]))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("eugenesiow/Set5", "bicubic_x2", values["psnr"])


def test_steps_of_compression_are_told_before_and_after(bare_classifier):
    step = {"step": "quantize", "method": "openvino", "settings": {"bits": 8, "max_drop": None}}
    step |= {"bytes": {"before": 4000, "after": 1000}}
    step["validation"] = {"images": 50, "metric": "top1", "before": 0.9, "after": 0.89, "agreement": 0.98}
    record = {"parent": "large", "compression": [step]}
    (bare_classifier / "record.json").write_text(json.dumps(record))
    card = card_files(bare_classifier)["README.md"]
    for fact in ("`large`", "bits 8", "| 4,000 | 1,000 |", "| 90.00% | 89.00% |", "98.00%"):
        assert fact in card
    assert not HOLES.search(without_bibtex(card))


def test_what_a_training_does_not_know_is_said_once_and_kept(run):
    words = ["--license", "cc-by-4.0", "--data-name", "Our clothes", "--data-license", "CC BY-SA 4.0"]
    assert main(["card", str(run), *words]) == 0
    assert main(["card", str(run)]) == 0
    card = (run / "README.md").read_text(encoding="utf-8")
    assert ModelCard(card).data.license == "cc-by-4.0"
    assert "Our clothes (CC BY-SA 4.0)" in card
    assert "shared alike" in flat(card)


def test_emissions_are_told_where_they_are_recorded(run):
    assert "CO₂" not in card_files(run)["README.md"]
    record = json.loads((run / "record.json").read_text())
    record["training"]["emissions"] = {"emissions": 12.4, "source": "codecarbon", "training_type": "pre-training"}
    (run / "record.json").write_text(json.dumps(record))
    card = card_files(run)["README.md"]
    assert "About 12 g of CO₂, by codecarbon." in flat(card)
    assert ModelCard(card).data.to_dict()["co2_eq_emissions"]["emissions"] == 12.4


def test_hidden_paths_leave_their_last_part_and_the_run_can_be_pushed(run, data, hub):
    assert str(data) in (run / "record.json").read_text()
    assert main(["card", str(run), "--hide-paths"]) == 0
    for file in ("record.json", "config.yaml", "robustness.json", "README.md"):
        assert str(data.parent) not in (run / file).read_text(encoding="utf-8")
    assert "--data clothes" in (run / "README.md").read_text(encoding="utf-8")
    assert main(["push", str(run), "tester/clothes"]) == 0
    pushed = hub.repos["model", "tester/clothes"].at("main").files
    assert {"curve.png", "record.json", "config.yaml", "metrics.json"} <= set(pushed)


def test_a_card_that_somebody_wrote_is_not_replaced_unasked(bare_classifier, capsys):
    own = ["# Mine\n", (bare_classifier / "README.md").read_text() + "\nIt was made for our garden.\n"]
    for text in own:
        (bare_classifier / "README.md").write_text(text)
        assert main(["card", str(bare_classifier)]) == 2
        assert "--force" in capsys.readouterr().err
        assert (bare_classifier / "README.md").read_text() == text
    assert main(["card", str(bare_classifier), "--force"]) == 0


@pytest.mark.parametrize("text", ["{broken", "[1]"])
def test_a_record_that_is_none_is_refused_in_one_line(bare_classifier, capsys, text):
    (bare_classifier / "record.json").write_text(text)
    assert main(["card", str(bare_classifier)]) == 2
    assert "record.json" in capsys.readouterr().err
    assert main(["card", str(bare_classifier / "nowhere")]) == 2


HOSTILE = (
    "<script>alert(1)</script>",
    "[x](javascript:alert(1)) <javascript:alert(1)> ![y](javascript:1)",
    "```\n\n# Mine\n\n<img src=x onerror=alert(1)>",
    "a | b\n|---|---|\n| c | d |",
    "x\n---\nlicense: evil\n---\n\n# Mine",
    "~~~ &lt;b&gt; &#60;b> \\<b> *b* _c_ __d__ **e**",
    "\u202eevil\u2066",
    "1. list",
    "=== # h",
    "long " * 100,
    "{braces} {0} {config}",
)


def shown(text: str) -> str:
    """A text as a card shows it: in one line, and nothing that turns it around."""
    return " ".join(re.sub("[\u202e\u2066]", "", text).split())


@pytest.mark.parametrize("text", HOSTILE)
def test_what_others_wrote_is_shown_as_it_is(bare_classifier, text):
    config = json.loads((bare_classifier / "config.json").read_text())
    config |= {"id2label": {"0": text, "1": "dog", "2": "cat"}, "label2id": {text: 0, "dog": 1, "cat": 2}}
    (bare_classifier / "config.json").write_text(json.dumps(config))
    data = [{"name": text, "source": text, "licence": text}]
    about = {"description": text, "limits": text, "note": text, "licence": text, "citation": text, "data": data}
    training = {"command": text, "config": {"teacher": text}, "seconds": 60, "parameters": 1, "data": {"images": 2}}
    figures = {
        "top1": 0.5,
        "top1_interval": [0.4, 0.6],
        "ece": 0.1,
        "nll": 0.1,
        "tta": "none",
        "images": 2,
        "speed": {},
    }
    figures |= {"classes": {text: {"precision": 1.0, "recall": 1.0, "f1": 1.0}}}
    record = {"about": about, "parent": text, "training": training, "test": figures, "compression": []}
    record["compression"] = [{"step": text, "method": text, "settings": {text: text}}]
    (bare_classifier / "record.json").write_text(json.dumps(record))
    assert main(["card", str(bare_classifier)]) == 0
    card = (bare_classifier / "README.md").read_text(encoding="utf-8")
    assert ModelCard(card).data.license.split() == text.split()
    assert ModelCard(card).data.library_name == "transformers"
    _, body = re.split(r"\n---\n", card, maxsplit=1)
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(body)
    assert re.findall("<h1>(.*?)</h1>", page) == ["bare"]
    assert "Mine" not in " ".join(re.findall("<h[12]>.*?</h[12]>", page))
    assert set(re.findall(r"<(\w+)", re.sub("<!--.*?-->", "", page))) <= PLAIN_TAGS
    assert "href" not in page
    assert flat(html.unescape(re.sub("<[^>]+>", "", page))).count(shown(text)) >= 12
