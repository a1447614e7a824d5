"""What can go wrong between a trained model and a version of it.

    RegistryError
     |- ModelUnfit           the model, the example or the file cannot become a version: the user's to mend, permanent
     |   |- ConversionFailed      no converter, or it refused
     |   |- ConversionDiffers     the converted model does not answer as the original does
     |   `- CorruptModel          no ONNX model, damaged, or made for another runtime
     `- VersionsContended    other writers kept taking the next number: try again

`reason` is the CamelCase word that ends in a status.
"""


class RegistryError(Exception):
    """Root of what this package raises."""

    reason = "RegistryFailed"


class ModelUnfit(RegistryError):
    """The model, the example or the file cannot become a version."""

    reason = "BadModel"


class ConversionFailed(ModelUnfit):
    """There is no converter for such a model, or it refused."""

    reason = "ConversionFailed"


class ConversionDiffers(ModelUnfit):
    """The converted model does not answer as the original does."""

    reason = "ConversionDiffers"


class CorruptModel(ModelUnfit):
    """The file is no ONNX model, is damaged, or is for another runtime."""

    reason = "CorruptModel"


class VersionsContended(RegistryError):
    """Other writers kept taking the next version number."""

    reason = "VersionsContended"
