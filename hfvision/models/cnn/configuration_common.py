"""What the configurations of all families share.

Each family's folder holds an equal copy of this file, as the files of one folder travel to the Hub together.
"""

import difflib
import os
from dataclasses import fields
from typing import Any

from transformers import PreTrainedConfig
from transformers.utils import logging

logger = logging.get_logger(__name__)

# What transformers itself passes to a configuration, or reads from config.json, besides the declared fields.
TRANSFORMERS_KEYS = {
    "attn_implementation",
    "auto_map",
    "custom_pipelines",
    "experts_implementation",
    "id2label",
    "model_type",
    "name_or_path",
    "num_labels",
    "output_attentions",
    "quantization_config",
    "torch_dtype",
}


class CheckedConfig(PreTrainedConfig):
    """A configuration that knows its fields: a misspelled one is an error in code, and a warning in a file.

    `extra_keys` names keywords that a family takes besides its fields and those of transformers.
    """

    extra_keys = frozenset()

    @classmethod
    def is_known(cls, name: str) -> bool:
        """Whether this class, or transformers, takes the keyword `name`."""
        return name in TRANSFORMERS_KEYS | cls.extra_keys | {f.name for f in fields(cls)} or name.startswith("_")

    def refuse_unknown_fields(self, kwargs: dict[str, Any]) -> None:
        """Raise ValueError for a keyword that is not a field: transformers would silently keep a misspelled one."""
        for name in kwargs:
            if not self.is_known(name):
                known = {f.name for f in fields(self)} | TRANSFORMERS_KEYS | self.extra_keys
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else "."
                raise ValueError(f"{type(self).__name__} has no field {name!r}{hint}")

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers; keys that are not fields of this class are kept as attributes, with a warning."""
        unknown = {name: value for name, value in config_dict.items() if not cls.is_known(name)}
        made = super().from_dict({name: config_dict[name] for name in config_dict if name not in unknown}, **kwargs)
        for name, value in unknown.items():
            setattr(made[0] if isinstance(made, tuple) else made, name, value)
        if unknown:
            logger.warning(
                f"{cls.__name__} has no fields {', '.join(map(ascii, unknown))}: they are kept, but not used."
            )
        return made

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike) -> Any:
        """As in transformers; unknown keys are treated as by `from_dict`."""
        return cls.from_dict(cls._dict_from_json_file(json_file))
