"""One verification of a run folder in a process of its own: CPU seconds, as a line of JSON.

``python -m simulations.benchmarks.verify_once FOLDER``: nothing is imported before the clock runs
but what Python itself needs, and this.
"""

import sys
import time


def _main(folder: str) -> int:
    clock = time.process_time
    start = clock()
    from fedmodel.audit import verb  # noqa: F401

    own = clock() - start
    import scipy.stats  # type: ignore[import-untyped]  # noqa: F401

    from fedmodel.accounting import pld, renyi  # noqa: F401

    times = {"imports": own, "accountants": clock() - start - own}
    import json
    from pathlib import Path

    from fedmodel.audit.evidence import FolderEvidence
    from fedmodel.audit.record_files import read_records
    from fedmodel.audit.verdicts import Verdict
    from fedmodel.audit.verify import verify

    start = clock()
    findings = verify(read_records(FolderEvidence(Path(folder))))
    times["verify"] = clock() - start
    times["failed"] = float(findings.count(Verdict.FAIL))
    print(json.dumps(times))
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
