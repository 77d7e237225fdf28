"""Which answers of a classifier are too unsure to be relied on, as measured when it was evaluated."""

import logging

from ...hub.records import read_record_of
from ...records import Evaluation, NewerRecordError
from ...utils.json_files import refuse

logger = logging.getLogger(__name__)


def recorded_threshold(name: str) -> float | None:
    """The probability below which fewer than half of a classifier's answers were right when it was evaluated.

    Args:
        name: Hub id, folder or shipped checkpoint. It is read from `evaluation.low_confidence` of record.json.

    Returns:
        From 0 to 1; None where it is not recorded.

    Raises:
        FileNotFoundError: if there is no such model.
        ValueError: if the record is malformed.
    """
    try:
        evaluation = read_record_of(name).evaluation
    except NewerRecordError as error:
        logger.warning("%s Its answers are not compared with a threshold of confidence.", error)
        return None
    if not isinstance(evaluation, Evaluation) or evaluation.low_confidence is None:
        return None
    threshold = evaluation.low_confidence.threshold
    if not 0 <= threshold <= 1:
        refuse(f"{name}/record.json", "threshold of evaluation.low_confidence", "a number from 0 to 1", threshold)
    return threshold


def is_low(probability: float, threshold: float | None) -> bool | None:
    """Whether an answer of this probability has low confidence; None where no threshold is recorded."""
    return None if threshold is None else probability < threshold


def low_confidence_note(threshold: float) -> str:
    return f"Low confidence: of answers below {threshold:.0%}, fewer than half were right on test images."
