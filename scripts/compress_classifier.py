"""Makes a classifier small and fast: prune, train beside the parent, quantize to int8 for OpenVINO; one record.

    python scripts/compress_classifier.py cnn-cifar10 --data CIFAR10 --target-params 0.187 --epochs 20 --out runs/small

Options are those of `hfvision prune`. `runs/small` is then the pruned model, `runs/small-int8` the quantized one, and
`runs/small-int8/record.json` has every step with parameters, multiply-adds, bytes and validation accuracy before and
after, and `benchmark`: parent, pruned and quantized model side by side on one thread, with accuracy on the test split
where there is one. `scripts/compress_superres.py` is the same for an upscaler, without the accuracy.
"""

import argparse
import json
from pathlib import Path

from hfvision.compression.benchmark import benchmark, format_benchmark
from hfvision.compression.quantize import quantize
from hfvision.compression.recipe import describe, parse_prune_options, prune_and_train
from hfvision.data.datasets.classification import load_image_dataset
from hfvision.records import write_record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", metavar="MODEL", help="the parent: Hub id, folder or shipped checkpoint")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="those of hfvision prune")
    args = parser.parse_args()
    config = parse_prune_options(args.model, args.options, "compress_classifier.py MODEL")
    prune_and_train(config)

    folder = config.out.with_name(f"{config.out.name}-int8")
    record = quantize(str(config.out), folder, calibration=config.data, seed=config.seed, force=config.resume)
    models, data = [args.model, str(config.out), str(folder)], None
    if isinstance(config.data, str) and "test" in load_image_dataset(config.data, validation=0):
        data = config.data
    measured = benchmark(models, data=data, engines=["eager"], count=10_000)
    write_record(Path(folder) / "record.json", record.to_json() | {"benchmark": measured})
    print(describe(record))
    print(format_benchmark(measured))
    print(json.dumps({"model": str(config.out), "int8": str(folder)}))


if __name__ == "__main__":
    main()
