"""Without a connection there is one sentence that says so."""

import datasets
import pytest
from huggingface_hub import constants

from hfvision import CNNConfig, CNNForImageClassification, ImageClassificationProcessor
from hfvision.data.datasets.classification import load_image_dataset
from hfvision.hub.loading import load_model
from hfvision.publishing.push import push_to_hub
from hfvision.tasks.classification.start import load_start
from hfvision.utils.connection import no_connection


def test_offline_is_said_in_one_sentence(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    for load in (
        lambda: load_model("some/model", "image-classification"),
        lambda: load_start("timm/test_vit.r160_in1k", names=["cat", "dog"]),
        lambda: load_image_dataset("some/pictures"),
    ):
        with pytest.raises(ConnectionError, match=r"not on this machine, and there is no connection to http"):
            load()


def test_a_client_closed_after_a_lost_connection_is_one_too():
    closed = RuntimeError("Cannot send a request, as the client has been closed.")
    wrapped = ValueError("no such data set")
    wrapped.__cause__ = closed
    assert "no connection" in str(no_connection("The model a/b", wrapped))
    assert no_connection("The model a/b", RuntimeError("something else")) is None


def test_a_token_that_is_not_accepted(hub):
    model = CNNForImageClassification(CNNConfig.from_preset("tiny", stage_widths=[[[4]], [[4]], [[4]]]))
    with pytest.raises(PermissionError, match="does not accept this token: log in with `hf auth login`"):
        push_to_hub(model, "tester/cnn", processor=ImageClassificationProcessor(), token="hf_bad")
