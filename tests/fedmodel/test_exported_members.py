import subprocess
import sys

import fedmodel


def test_the_public_names_are_sorted_complete_and_there() -> None:
    assert fedmodel.__all__ == sorted(fedmodel.__all__, key=lambda n: (n[0].islower(), n))
    assert set(fedmodel.__all__) == set(fedmodel._HOME_OF)
    for name in fedmodel.__all__:
        assert getattr(fedmodel, name).__name__ == name


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys, fedmodel; sys.exit(bool({'numpy', 'torch', 'flwr'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
