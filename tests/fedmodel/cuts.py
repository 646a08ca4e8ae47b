"""Power cuts, and kills in the place of a sync, that a test puts where it wants them."""

from collections.abc import Callable
from typing import Any

from tests.fedmodel.identity.killed import Killed
from tests.fedmodel.ledger.lives import install, uninstall
from tests.fedmodel.ledger.lives_cut import Disk, PowerCutError

__all__ = ["NEVER", "KilledAtSync", "came_to_its_end"]

NEVER = 1 << 30


class KilledAtSync(Disk):
    """A disk on which a process is killed in the place of one of its syncs; the power stays on."""

    syncs = NEVER  # that are left until then

    def on_fsync(self, real: Callable[..., Any], handle: int) -> None:
        self.syncs -= 1
        if self.syncs == 0:
            raise Killed
        super().on_fsync(real, handle)


def came_to_its_end(disk: Disk, life: Callable[[], object]) -> bool:
    """Let something live on a disk; return whether it came to its end before a cut or a kill.

    Args:
        disk: what is there counts as synced.
        life: what is run.
    """
    disk.adopt()
    install(disk)
    try:
        life()
    except (PowerCutError, Killed):
        return False
    finally:
        uninstall()
    return True
