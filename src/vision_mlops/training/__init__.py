"""Fine-tuning with PyTorch Lightning, calibration, and export to a model bundle."""

# Lightning imports torchvision, so the operators must be declared before any module here is loaded.
from vision_mlops.model import torchvision_operators as torchvision_operators
