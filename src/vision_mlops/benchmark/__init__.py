"""The arena: reference models are trained on a workload's training images and judged on its test images, like our own."""
