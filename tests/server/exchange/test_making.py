"""The choice of the exchange: by the job's way of sending, with what that takes."""

import numpy as np
import pytest

from fedmodel.errors import ConfigError
from fedmodel.identity.provision import CoordinatorKeys
from fedmodel.job import SecAgg
from server.coordinator import Coordinator
from server.exchange.making import make_exchange
from server.exchange.plain import Plain
from server.exchange.sealed import Sealed
from server.exchange.summed import Summed
from tests.jobs import make_job, summed
from tests.server.exchange.masked import COORDINATOR_KEYS

WAYS = {"off": SecAgg(), "seal": SecAgg(mode="seal"), "on": summed(5)}


def coordinator(way: str, keys: CoordinatorKeys | None) -> Coordinator:
    job = make_job(secagg=WAYS[way])
    return Coordinator(job=job, folder=None, initial=np.zeros(3, np.float32), keys=keys)


@pytest.mark.parametrize(("way", "kind"), [("off", Plain), ("seal", Sealed), ("on", Summed)])
def test_the_job_says_which(way: str, kind: type) -> None:
    made = make_exchange(coordinator(way, COORDINATOR_KEYS), 0)
    assert type(made) is kind
    assert len(made.joining) == 64


@pytest.mark.parametrize("way", ["seal", "on"])
def test_what_hides_updates_takes_keys(way: str) -> None:
    with pytest.raises(ConfigError, match=f"secagg={way} needs a roster.*provision"):
        make_exchange(coordinator(way, None), 0)


def test_updates_in_the_clear_take_none() -> None:
    assert isinstance(make_exchange(coordinator("off", None), 0), Plain)
