"""The arena: reference models trained on a workload's training images and judged on its test images, beside our own."""
