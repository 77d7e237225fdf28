"""Writes the cards of the shipped models anew from their records: beside the weights, and under model_cards/.

python scripts/make_cards.py
"""

from pathlib import Path

from hfvision.hub.checkpoints import list_checkpoints
from hfvision.hub.records import data_name, read_record
from hfvision.publishing.cards.write import card_files
from hfvision.utils.report import markdown_table, write_text

CARDS = Path(__file__).parents[1] / "model_cards"
INDEX = """# Model cards

The cards of the shipped models, as `python scripts/make_cards.py` writes them from the `record.json` beside the
weights. `python scripts/push_to_hub.py USER` publishes all of them.

{table}
"""


def main() -> None:
    rows = []
    for name, folder in list_checkpoints().items():
        files = card_files(folder)
        for file, text in files.items():
            write_text(CARDS / name / file, text)
        write_text(folder / "README.md", files["README.md"])
        rows.append([f"[`{name}`]({name}/README.md)", data_name(read_record(folder)) or ""])
    write_text(CARDS / "README.md", INDEX.format(table=markdown_table(["model", "trained on"], rows)))


if __name__ == "__main__":
    main()
