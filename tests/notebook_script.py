"""What somebody writes in a notebook: fine-tune, evaluate, classify, upscale, quantize, explain, publish."""

import datasets

import hfvision

runs = "runs"
photo = str(hfvision.sample_photos()["cat"])

# A few clothes, as a data set in memory.
clothes = hfvision.sample_dataset("fashion_mnist")
few = datasets.DatasetDict({"train": clothes["train"].take(60), "test": clothes["test"].take(60)})

# Fine-tune a model that is loaded already, and measure it.
start = hfvision.load_model("cnn-cifar10-small")
config = hfvision.ClassifierTrainingConfig(data=few, model=start, out=f"{runs}/clothes", epochs=1, validation=0.3)
trained = hfvision.train_classifier(config)
print(trained)
figures = hfvision.evaluate(trained, few)
print(figures, figures.parameters)

# Ask it, and the models that ship; a path, bytes, a PIL image and an array are all images.
answer = hfvision.classify(photo, start, top=2)
print(answer.label, answer.probability, answer)
print(hfvision.classify([hfvision.read_image(photo)], trained)[0].label)
print(hfvision.explain(photo, "cnn-cifar10-small").label)
print(hfvision.attack(photo, start, method="fgsm"))

# Enlarge a photograph, by a model of its name.
large = hfvision.upscale(photo, "sr-tiny-x2")
large.save(f"{runs}/cat_x2.png")
print(large.size)

# Make it smaller, and publish it.
small = hfvision.quantize(trained, few, out=f"{runs}/clothes-int8", method="bf16")
print(small)
pushed = hfvision.push(small, "tester/clothes")
print(pushed["model"].url, pushed["model"].new)
