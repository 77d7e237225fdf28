"""What transformers expects of any model, as one class of tests: a family's tests derive from it."""

import json

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file, save_file


def seeded(function, *args, **kwargs):
    torch.manual_seed(0)
    return function(*args, **kwargs)


class ModelChecks:
    """Set `model_class`, `auto_class`, `config()`, `inputs()` (a dict with labels) and `output_name`."""

    model_class: type
    auto_class: type
    output_name = "logits"
    bf16_tolerance = 0.05

    def config(self):
        raise NotImplementedError

    def inputs(self) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def model(self):
        model = seeded(self.model_class, self.config()).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        return model

    def output(self, model, **inputs) -> torch.Tensor:
        with torch.no_grad():
            return model(**(inputs or {"pixel_values": self.inputs()["pixel_values"]}))[self.output_name]

    def test_loss_reaches_every_parameter(self):
        model = self.model().train()
        outputs = model(**self.inputs())
        assert outputs.loss.ndim == 0
        outputs.loss.backward()
        assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []

    def test_same_input_gives_same_output(self):
        model = self.model()
        assert torch.equal(self.output(model), self.output(model))

    def test_an_image_gets_the_same_output_alone_and_in_a_batch(self):
        model, pixel_values = self.model().double(), self.inputs()["pixel_values"].double()
        alone = torch.cat([self.output(model, pixel_values=image[None]) for image in pixel_values])
        torch.testing.assert_close(alone, self.output(model, pixel_values=pixel_values))

    def test_tuple_and_dict_outputs_agree(self):
        model, inputs = self.model(), self.inputs()
        with torch.no_grad():
            as_dict = model(**inputs, output_hidden_states=True)
            as_tuple = model(**inputs, output_hidden_states=True, return_dict=False)
        assert isinstance(as_tuple, tuple)
        for left, right in zip(as_dict.to_tuple(), as_tuple, strict=True):
            torch.testing.assert_close(left, right)
        model.config.return_dict = False
        with torch.no_grad():
            assert isinstance(model(**inputs), tuple)

    def test_hidden_states_on_request(self):
        model, pixel_values = self.model(), self.inputs()["pixel_values"]
        with torch.no_grad():
            assert model(pixel_values).hidden_states is None
            by_argument = model(pixel_values, output_hidden_states=True).hidden_states
            model.config.output_hidden_states = True
            by_config = model(pixel_values).hidden_states
        assert len(by_argument) == len(by_config) > 1
        assert all(torch.equal(left, right) for left, right in zip(by_argument, by_config, strict=True))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_saved_and_loaded_to_the_bit(self, tmp_path, dtype):
        model = self.model().to(dtype)
        model.save_pretrained(tmp_path)
        reloaded = self.auto_class.from_pretrained(tmp_path)
        assert type(reloaded) is self.model_class
        assert not reloaded.training
        assert reloaded.dtype == dtype
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, reloaded.state_dict()[name]), name
        # Where a weight lies in memory may change the last bit of a product.
        torch.testing.assert_close(self.output(model), self.output(reloaded))
        assert not list(tmp_path.glob("*.bin"))

    def test_card_and_code_are_saved_too(self, tmp_path):
        self.model().save_pretrained(tmp_path)
        card = (tmp_path / "README.md").read_text()
        assert "More Information Needed" not in card
        assert self.model_class.__name__ in card
        auto_map = json.loads((tmp_path / "config.json").read_text())["auto_map"]
        for reference in auto_map.values():
            assert (tmp_path / f"{reference.split('.')[0]}.py").is_file()
        (tmp_path / "README.md").write_text("my own card")
        self.model().save_pretrained(tmp_path)
        assert (tmp_path / "README.md").read_text() == "my own card"

    def test_missing_and_extra_weights_are_reported_and_initialised_by_the_seed(self, tmp_path):
        model = seeded(self.model_class, self.config())
        model.save_pretrained(tmp_path)
        file = tmp_path / "model.safetensors"
        weights = load_file(file)
        gone = sorted(weights)[-1]
        save_file(
            {k: v for k, v in weights.items() if k != gone} | {"extra.weight": torch.ones(2)}, file, {"format": "pt"}
        )
        loaded, report = seeded(self.model_class.from_pretrained, tmp_path, output_loading_info=True)
        again, _ = seeded(self.model_class.from_pretrained, tmp_path, output_loading_info=True)
        assert set(report["missing_keys"]) == {gone}
        assert set(report["unexpected_keys"]) == {"extra.weight"}
        assert loaded.state_dict()[gone].isfinite().all()
        assert torch.equal(loaded.state_dict()[gone], again.state_dict()[gone])

    def test_weights_loaded_from_nothing_equal_a_fresh_model(self, tmp_path):
        fresh = self.model_class(self.config())
        fresh.config.save_pretrained(tmp_path)
        save_file({"other": torch.ones(1)}, tmp_path / "model.safetensors", {"format": "pt"})
        loaded = self.model_class.from_pretrained(tmp_path)
        expected = fresh.state_dict()
        for name, tensor in loaded.state_dict().items():
            assert tensor.isfinite().all(), name
            torch.testing.assert_close(
                tensor.float().std(correction=0),
                expected[name].float().std(correction=0),
                atol=0.1,
                rtol=0.5,
                msg=name,
            )
        for (name, ours), (_, theirs) in zip(loaded.named_buffers(), fresh.named_buffers(), strict=True):
            if name.endswith("kernel"):
                assert torch.equal(ours, theirs)

    def test_gradient_checkpointing_keeps_the_gradients(self):
        gradients = []
        for reentrant in (None, False, True):
            model = self.model().train()
            if reentrant is not None:
                model.gradient_checkpointing_enable({"use_reentrant": reentrant})
                assert model.is_gradient_checkpointing
            model(**self.inputs()).loss.backward()
            gradients.append({name: p.grad for name, p in model.named_parameters()})
        for checkpointed in gradients[1:]:
            for name, gradient in gradients[0].items():
                torch.testing.assert_close(gradient, checkpointed[name], msg=name)

    def test_gradients_are_right_in_float64(self):
        model = self.model().double()
        small = self.gradcheck_input().double().requires_grad_()
        assert torch.autograd.gradcheck(
            lambda x: model(x)[self.output_name].sum((0, *range(2, model(x)[self.output_name].ndim))), small
        )

    def gradcheck_input(self) -> torch.Tensor:
        return self.inputs()["pixel_values"][:1]

    def test_torch_export(self):
        model, pixel_values = self.model(), self.inputs()["pixel_values"]
        exported = torch.export.export(model, (), {"pixel_values": pixel_values}, strict=False).module()
        torch.testing.assert_close(exported(pixel_values=pixel_values)[self.output_name], self.output(model))

    def test_torch_compile_fullgraph(self):
        model = self.model()
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(self.output(compiled), self.output(model))
        torch.compiler.reset()

    def test_device_map(self, tmp_path):
        model = self.model()
        model.save_pretrained(tmp_path)
        mapped = self.model_class.from_pretrained(tmp_path, device_map={"": "cpu"})
        torch.testing.assert_close(self.output(mapped), self.output(model))

    def test_channels_last_and_bf16_agree_with_fp32(self):
        model, pixel_values = self.model(), self.inputs()["pixel_values"]
        expected = self.output(model)
        moved = model.to(memory_format=torch.channels_last)
        last = self.output(moved, pixel_values=pixel_values.to(memory_format=torch.channels_last))
        torch.testing.assert_close(last, expected, atol=1e-4, rtol=1e-4)
        half = self.output(moved.bfloat16(), pixel_values=pixel_values).float()
        assert (half - expected).abs().max() <= self.bf16_tolerance * expected.abs().max()

    def test_config_round_trip_and_refusals(self, tmp_path):
        config = self.config()
        config.dataset_name = "faces"
        self.model_class(config).save_pretrained(tmp_path)
        again = self.auto_class.from_pretrained(tmp_path).config
        assert again.dataset_name == "faces"
        saved = json.loads((tmp_path / "config.json").read_text())
        assert json.loads(again.to_json_string(use_diff=False)).items() >= saved.items()
        assert type(config).from_json_file(tmp_path / "config.json").dataset_name == "faces"
        with pytest.raises(ValueError, match=r"num_chanels.*did you mean 'num_channels'"):
            type(config)(num_chanels=3)
        with pytest.raises(StrictDataclassError, match="num_channels"):
            type(config)(num_channels="three")
        with pytest.raises(ValueError, match="no-such"):
            type(config).from_preset("no-such")

    def test_wrong_channels_are_refused(self):
        pixel_values = self.inputs()["pixel_values"]
        with pytest.raises(ValueError, match=r"pixel_values must have the shape \(batch, "):
            self.model()(torch.cat([pixel_values, pixel_values], dim=1))
        with pytest.raises(ValueError, match="pixel_values must have the shape"):
            self.model()(pixel_values[0])


class ClassifierChecks(ModelChecks):
    """For models with a label head."""

    def test_own_initialisation(self):
        """transformers' default, N(0, 0.02) for every layer, would leave logits of nearly nothing."""
        outputs = seeded(self.model_class, self.config()).train()(**self.inputs())
        assert outputs.logits.std() > 0.02

    def test_label_head_is_resized_on_request(self, tmp_path):
        model = self.model()
        model.save_pretrained(tmp_path)
        resized = self.model_class.from_pretrained(tmp_path, num_labels=7, ignore_mismatched_sizes=True)
        assert self.output(resized).shape == (len(self.inputs()["pixel_values"]), 7)
        name = next(name for name in model.state_dict() if not name.startswith("classifier"))
        assert torch.equal(resized.state_dict()[name], model.state_dict()[name])
        with pytest.raises(RuntimeError):
            self.model_class.from_pretrained(tmp_path, num_labels=7)
