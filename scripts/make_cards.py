"""Writes the cards of the shipped models anew from their records: beside the weights, and under model_cards/.

python scripts/make_cards.py
"""

from pathlib import Path

from hfvision.hub.checkpoints import list_checkpoints
from hfvision.publishing.cards.write import card_files
from hfvision.records import read_record
from hfvision.utils.files import write_text
from hfvision.utils.markdown import markdown_table

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
        rows.append([f"[`{name}`]({name}/README.md)", read_record(folder).data_name or ""])
    write_text(CARDS / "README.md", INDEX.format(table=markdown_table(["model", "trained on"], rows)))


if __name__ == "__main__":
    main()
