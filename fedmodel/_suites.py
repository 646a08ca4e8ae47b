"""Cipher suites of TLS up to 1.2 that gRPC is loaded with: none that a server of ours could speak.

gRPC has no setting for the lowest version of TLS. Its list of suites rules 1.2 and below only, and
the one suite on it needs an RSA key; our servers have P-256 keys (``NO_SHARED_CIPHER``), so 1.3
is what is left. gRPC reads the list once, as it is loaded, and flwr loads it. How much it writes
to stderr in words of its own is set with it: no more than errors.
"""

import os
import sys

__all__ = ["NAME", "SUITES", "set_suites"]

NAME = "GRPC_SSL_CIPHER_SUITES"
SUITES = "ECDHE-RSA-AES256-GCM-SHA384"


def set_suites() -> None:
    """Name the suites, unless gRPC is loaded (then it has others) or somebody has named some."""
    if "grpc" not in sys.modules:
        os.environ.setdefault(NAME, SUITES)
        # Else each refused handshake is a line between those of our log, also where it is JSON.
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
