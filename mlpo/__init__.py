"""mlpo: helpers of the book "RLHF in many languages, reproduced".

The notebooks teach, this package works: whatever two chapters need, or needs a unit test, lives here.
"""

from mlpo.errors import MlpoError

__version__ = "0.1.0"
__all__ = ["MlpoError", "__version__"]
