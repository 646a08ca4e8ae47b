"""What the gradient tests share with those of training: tiny networks, short texts, an oracle."""

from tests.fedmodel.training.conftest import *  # noqa: F403
