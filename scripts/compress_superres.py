"""Makes an upscaler small and fast: prune, train beside the parent, quantize to int8 for OpenVINO; one record.

    python scripts/compress_superres.py sr-light-x2 --data PHOTOS --target-macs 0.7 --out runs/fast

See `scripts/compress_classifier.py`, of which this is the other name.
"""

from compress_classifier import main

if __name__ == "__main__":
    main()
