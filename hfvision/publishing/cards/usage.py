"""Python that loads a published or shipped model and uses it, for its card."""

import json
from dataclasses import dataclass

from transformers import PreTrainedConfig

from ...hub.loading import quantization
from ...tasks.base import Task, is_own_family

ONNX = """import onnxruntime
from huggingface_hub import hf_hub_download

session = onnxruntime.InferenceSession(hf_hub_download({source}, "model.onnx"))
print([(port.name, port.shape) for port in (*session.get_inputs(), *session.get_outputs())])"""

QUANTIZED_UPSCALER = """from hfvision import upscale

upscale("photo.jpg", {source}).save("photo_x{scale}.png")"""

OPENVINO = """from optimum.intel import OVModelForImageClassification
from transformers import AutoImageProcessor, pipeline

settings = {{"INFERENCE_PRECISION_HINT": "f32"}}
model = OVModelForImageClassification.from_pretrained({source}, ov_config=settings{trust})
processor = AutoImageProcessor.from_pretrained({source}{trust})
{name} = pipeline("{pipeline}", model=model, image_processor=processor)
{example}"""

QUANTIZED = """from hfvision import load_model
from transformers import pipeline

model, processor = load_model({source}, "{pipeline}")
{name} = pipeline("{pipeline}", model=model, image_processor=processor)
{example}"""

SHIPPED = """import hfvision
from transformers import pipeline

{name} = pipeline("{pipeline}", model=hfvision.checkpoint({source}))
{example}"""

PIPELINE = """from transformers import pipeline

{name} = pipeline("{pipeline}", model={source}{trust})
{example}"""


@dataclass(frozen=True)
class Usage:
    """How a model is loaded.

    Attributes:
        source: Hub id, folder, or name of a shipped checkpoint.
        task: of the model.
        config: of the model.
        shipped: whether it is a checkpoint of the package.
    """

    source: str
    task: Task
    config: PreTrainedConfig
    shipped: bool

    def python(self) -> str:
        """Lines of Python that load the model and use it on `photo.jpg`."""
        remote = is_own_family(self.config) and not self.shipped
        return self.template().format(
            source=json.dumps(self.source, ensure_ascii=False),
            name=self.task.verb,
            pipeline=self.task.pipeline,
            trust=", trust_remote_code=True" if remote else "",
            scale=getattr(self.config, "scale", None),
            example=self.task.card.example(self.config),
        )

    def template(self) -> str:
        method = quantization(self.config)
        if method == "onnx":
            return ONNX
        if method and self.task.name == "super_resolution":
            return QUANTIZED_UPSCALER
        if method == "openvino" and not self.shipped:
            return OPENVINO
        if method in ("openvino", "quanto"):
            return QUANTIZED
        return SHIPPED if self.shipped else PIPELINE
