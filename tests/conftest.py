"""What every test needs: TensorFlow's C++ library says less, so that a failure can be read."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is imported, so before any test module is
