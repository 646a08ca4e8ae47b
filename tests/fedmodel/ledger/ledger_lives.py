"""Lives of a site that end between two system calls, and what its ledger says afterwards.

Run as a program of its own by ``test_ledger_crash.py``: it forks once for each life, and forking a
process that has loaded torch is slow. Modes:

* ``kill N SEED``: SIGKILL before, after or in the middle of a system call.
* ``cut N SEED``: the power fails there: what wasn't synced is on disk in part, or not, or as zeros.
* ``full N SEED``: the disk fails there, once or from then on; the process goes on.
* ``race N SEED``: several processes ask at once for what only one of them can have.
"""

import json
import sys

from tests.fedmodel.ledger.lives_cut import cut
from tests.fedmodel.ledger.lives_killed import full, kill
from tests.fedmodel.ledger.lives_racing import race

if __name__ == "__main__":
    mode, times, start = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    modes = {"kill": kill, "cut": cut, "full": full, "race": race}
    print(json.dumps(modes[mode](times, start)))
