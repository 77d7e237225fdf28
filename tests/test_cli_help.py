"""The help of all commands, mistakes on the command line, and that neither imports torch or transformers.

Regenerate the snapshot with: UPDATE_SNAPSHOTS=1 python -m pytest -n 0 tests/test_cli_help.py
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hfvision.cli.commands import Command
from hfvision.cli.main import build_commands, main
from hfvision.engine.options import GROUPS, NAMES, current_names, parse_options
from hfvision.tasks.classification.config import ClassifierTrainingConfig
from hfvision.tasks.super_resolution.config import SuperResTrainingConfig

SNAPSHOT = Path(__file__).parent / "snapshots" / "help.txt"
HEAVY = ("torch", "transformers", "numpy", "PIL", "datasets", "accelerate", "timm", "gradio", "matplotlib")
PROBE = """
import json, sys
from hfvision.cli.main import main
lines = json.loads(sys.stdin.read())
codes = []
for line in lines:
    try:
        codes.append(main(line))
    except SystemExit as stop:
        codes.append(stop.code)
    heavy = [name for name in %r if name in sys.modules]
    assert not heavy, (line, heavy)
print(json.dumps({"codes": codes}), file=sys.stderr)
"""


def tree(command: Command) -> list[Command]:
    return [command, *(each for part in command.commands.values() for each in tree(part))]


def helps() -> dict[str, str]:
    return {command.parser.prog: command.parser.format_help() for command in tree(build_commands())}


@pytest.fixture
def mistake(capsys):
    """Runs a command that must be refused and gives the line that says why."""

    def run(*words: str) -> str:
        assert main(list(words)) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line.removeprefix("hfvision: error: ")

    return run


def test_help_of_all_commands_is_as_in_the_snapshot(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = "\n".join(f"$ {prog} --help\n{help}" for prog, help in helps().items())
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(text, encoding="utf-8")
    assert text == SNAPSHOT.read_text(encoding="utf-8"), "see the first lines of this file"


def test_helps_name_each_default_once_and_never_none():
    for prog, text in helps().items():
        assert "None" not in text, prog
        for entry in text.split("\n  -"):
            assert entry.count("(default:") <= 1, (prog, entry)


def test_every_option_of_a_training_is_in_a_group():
    grouped = " ".join(GROUPS.values()).split()
    assert len(grouped) == len(set(grouped))
    for command in tree(build_commands()):
        if command.parse is not None and "train" in command.parser.prog:
            text = command.parser.format_help()
            assert text.index("\ndata:") < text.index("\nmodel:") < text.index("\noptimization:")
    for config_class in (ClassifierTrainingConfig, SuperResTrainingConfig):
        assert set(config_class.__dataclass_fields__) <= set(grouped)


def test_help_and_refusals_import_nothing_heavy(tmp_path):
    commands = [command.parser.prog.split()[1:] for command in tree(build_commands())]
    lines = [[*words, "--help"] for words in commands]
    refused = [
        ["trian"],
        [],
        ["evaluate"],
        ["classify"],
        ["classify", "missing.png"],
        ["classify", "missing.png", "--nothing"],
        ["segment", "missing.png", "--model", "nowhere"],
        ["explain", "missing.png"],
        ["video", "summarize", "missing.mp4"],
        ["upscale", "missing.png", "--scale", "2"],
        ["upscale", "missing.png", "--scale", "5"],
        ["blend", "nowhere", "nowhere-else", "--out", "x"],
        ["info", "./nowhere"],
        ["train", "classifier"],
        ["train", "classifier", "--data", "./missing"],
        ["train", "classifier", "--data", "fashion_mnist", "--model", "resnet18"],
        ["train", "classifier", "--data", "fashion_mnist", "--epochs", "many"],
        ["train", "superres", "--data", "./missing"],
        ["train", "segmenter", "--data", "./missing"],
        ["calibrate", "./nowhere", "--data", "./missing", "--out", "x"],
        ["show-augment", "./missing.png"],
        ["evaluate", "classifier", "./nowhere", "--data", "./missing"],
        ["evaluate", "binary", "cnn-cifar10", "--data", "./missing", "--positive", "cat"],
        ["evaluate", "segmenter", "./nowhere", "--data", "./missing"],
        ["evaluate", "robustness", "cnn-cifar10", "--data", "./missing", "--epsilon", "8"],
        ["evaluate", "superres", "sr-tiny-x2", "--data", "./missing"],
        ["quantize", "cnn-cifar10", "--calibration", "./missing", "--out", "x"],
        ["prune", "cnn-cifar10", "--data", "./missing", "--target-params", "0.5"],
        ["prune", "cnn-cifar10"],
        ["distill", "cnn-cifar10", "cnn:tinny", "--data", "fashion_mnist"],
        ["benchmark", "./nowhere"],
        ["detect", "fit", "./nowhere", "--normal", "./missing"],
        ["detect", "anomalies", "./missing", "--model", "./nowhere"],
        ["card", "./nowhere"],
        ["push", "./nowhere", "user/name"],
        ["demo", "--model", "./nowhere"],
    ]
    fine = [["--version"], ["info", "--list"], ["info", "--list", "--json"], ["--print-completion", "bash"]]
    fine += [["prune", "cnn-cifar10", "--help"]]
    done = subprocess.run(
        [sys.executable, "-c", PROBE % (HEAVY,)],
        input=json.dumps([*lines, *fine, *refused]),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stderr.splitlines()[-1])["codes"]
    assert codes == [0] * len([*lines, *fine]) + [2] * len(refused)
    assert not list(tmp_path.iterdir())


def test_commands_in_documents_parse(recwarn):
    root = SNAPSHOT.parents[2]
    generated = {"docs/reference/models.md"}  # by a build of the site; cards keep the options of their time
    pages = [path for path in sorted(root.glob("docs/**/*.md")) if path.relative_to(root).as_posix() not in generated]
    documents = [root / "README.md", root / "CONTRIBUTING.md", *pages]
    texts = [document.read_text(encoding="utf-8").replace("\\\n", " ") for document in documents]
    blocks = [block for text in texts for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)]
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("hfvision ")]
    assert len(lines) > 10
    commands = build_commands()
    for line in lines:
        command, words = commands.find(shlex.split(line, comments=True)[1:])
        if command.parse is None:
            command.parser.parse_args(words)
        elif "train" in command.parser.prog:
            command.parser.parse_args(current_names(words), defaults=False)
        else:
            assert words
    assert not [str(warning.message) for warning in recwarn]


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        (["trian"], "did you mean train?"),
        (["train", "clasifier"], "did you mean classifier?"),
        (["classify", "a.png", "--modle", "x"], "did you mean --model?"),
        (["train", "classifier", "--data", "fashion_mnist", "--model", "resnet18"], "did you mean cnn:resnet18?"),
        (["train", "classifier", "--data", "fashion_mnist", "--model", "cnn:cifr"], "did you mean cnn:cifar?"),
        (["train", "classifier", "--data", "fashion-mnist"], "did you mean fashion_mnist?"),
        (["train", "superres", "--data", ".", "--gan", "relativstic"], "did you mean relativistic?"),
        (["train", "superres", "--data", ".", "--learning-rat", "1"], "did you mean --learning-rate?"),
    ],
)
def test_typing_errors_get_a_suggestion(words, suggestion, mistake):
    assert suggestion in mistake(*words)


def test_mistakes_name_option_value_and_help(mistake):
    said = mistake("train", "classifier", "--data", "x", "--epochs", "ten")
    assert said == "--epochs: invalid value 'ten', expected an integer (see \"hfvision train classifier --help\")"
    said = mistake("classify", "x", "--top", "0")
    assert "--top" in said
    assert "0" in said


def test_former_names_of_options_are_understood(tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text("accumulate: 2\nworkers: 3\nema_decay: 0.5\n")
    words = ["--data", "x", "--config", str(file), "--schedule", "constant", "--out", "runs/x"]
    with pytest.warns(FutureWarning, match="--schedule is deprecated, use --lr-scheduler-type"):
        config = parse_options(ClassifierTrainingConfig, words, "train")
    assert (config.accumulate, config.workers, config.ema, config.schedule) == (2, 3, 0.5, "constant")
    assert str(config.out) == "runs/x"
    assert set(NAMES) <= set(ClassifierTrainingConfig.__dataclass_fields__)


def test_unknown_options_in_a_file_are_refused_with_a_suggestion(tmp_path, mistake):
    file = tmp_path / "options.yaml"
    file.write_text("data: x\nlearning_rte: 1\n")
    said = mistake("train", "classifier", "--config", str(file))
    assert "unknown options: learning_rte: did you mean learning_rate?" in said
    file.write_text("data: x\nepochs: many\n")
    assert f"{file}: --epochs: invalid value 'many'" in mistake("train", "classifier", "--config", str(file))


def test_quiet_verbose_and_debug(capsys, tmp_path):
    assert main(["-q", "info", "./nowhere"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["info", "./nowhere", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_completion_scripts(capsys):
    assert main(["--print-completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert "--gradient-accumulation-steps" in script
    assert "superres" in script
