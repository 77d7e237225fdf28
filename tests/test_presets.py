"""The names of presets that help texts and messages list, beside the families' configurations."""

from hfvision.models import presets
from hfvision.models.cnn import configuration_cnn
from hfvision.models.srgan import configuration_srgan
from hfvision.models.vit import configuration_vit


def test_preset_names_are_those_of_the_configurations():
    assert tuple(configuration_cnn.PRESETS) == presets.CNN
    assert tuple(configuration_vit.PRESETS) == presets.VIT
    assert tuple(configuration_srgan.PRESETS) == presets.SRGAN
