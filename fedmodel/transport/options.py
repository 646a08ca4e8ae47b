"""Options of gRPC's channels and servers: sizes, times, signs of life, and no proxy of its own.

gRPC's defaults were measured to be wrong here: two servers could share a port, a dead peer was
noticed after a minute more than asked for, and a site's proxy could be passed by. A ping's answer
queues behind what the line still has to carry: so a peer has long to answer, no pings measure the
line (they would end it: one of 2 Mbit/s after seconds), and little is under way at a time.
"""

import os
import resource
from datetime import timedelta
from typing import TypeAlias

__all__ = ["Option", "channel_options", "most_connections", "server_options"]

Option: TypeAlias = tuple[str, int | str]

_FRAME = 1 << 20  # bytes of an HTTP/2 frame
_MESSAGE = 8 << 20  # bytes of a message: a chunk of 4 MiB and its header
_METADATA = 16 << 10
_HANDSHAKE = 8_000  # ms for TCP, TLS and the first settings: strangers hold a place no longer
_IDLE = 20_000  # ms without a stream: who has come in and asks for nothing holds no place
_STREAMS = 4  # of one connection; a site needs one, and another while the first is closing
_MOST = 4096  # connections; those that nobody is let in on are closed at half of them
_SITE_PINGS = 17_000  # ms without a sign of life until a site pings
# … until the coordinator does. A ping that comes is a sign of life: two ends that wait for equally
# long would both ping each time, and half of that tells nobody anything.
_COORDINATOR_PINGS = 20_000
_ANSWER = 24_000  # ms until its answer: a dead peer is noticed within the sum
_UNDER_WAY = 1 << 20  # bytes that one end sends and the other hasn't read, or one message
_LEAST_INTERVAL = 10_000  # ms between a site's pings: more of them are taken as a flood

# gRPC would pass by a proxy that it is told to use, where no_proxy has the host and this is unset.
# What no_proxy says was heard before a proxy is given to it.
os.environ["no_grpc_proxy"] = "none.invalid"  # noqa: SIM112  in capitals gRPC doesn't know it


def server_options(
    age: timedelta = timedelta(hours=12), grace: timedelta = timedelta(minutes=10)
) -> tuple[Option, ...]:
    """Return the options of a server.

    Args:
        age: of a connection, after which its peer is asked to dial anew, and its certificate is
            looked at again. gRPC varies it by a tenth.
        grace: that its streams then have to end.
    """
    return (
        *_both(_COORDINATOR_PINGS),
        # On by default: a second server on the port would start, and get half of the sites.
        ("grpc.so_reuseport", 0),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE),
        # Against exhaustion alone: a cap that a flood reaches keeps honest sites out.
        ("grpc.max_allowed_incoming_connections", most_connections()),
        ("grpc.max_concurrent_streams", _STREAMS),
        ("grpc.max_connection_idle_ms", _IDLE),
        ("grpc.max_connection_age_ms", _milliseconds(age)),
        ("grpc.max_connection_age_grace_ms", _milliseconds(grace)),
        ("grpc.http2.min_ping_interval_without_data_ms", _LEAST_INTERVAL),
    )


def channel_options(proxy: str | None, server_name: str) -> tuple[Option, ...]:
    """Return the options of a site's channel.

    Args:
        proxy: that it dials through, ``http://[USER:PASSWORD@]HOST:PORT``; ``None``: through none,
            whatever the environment says.
        server_name: the coordinator's name in TLS, as the roster has it; the address may have
            another.
    """
    through: tuple[Option, ...] = (("grpc.enable_http_proxy", 0),)
    if proxy is not None:
        through = (("grpc.enable_http_proxy", 1), ("grpc.http_proxy", proxy))
    return (
        *_both(_SITE_PINGS),
        *through,
        ("grpc.ssl_target_name_override", server_name),
        # Channels of one process would share a connection, and its certificate.
        ("grpc.use_local_subchannel_pool", 1),
        # Nothing is looked up in DNS but the address; nothing is sent again but by our own word.
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.dns_enable_srv_queries", 0),
        ("grpc.enable_retries", 0),
        ("grpc.min_reconnect_backoff_ms", 20_000),  # what one attempt to connect may take
        ("grpc.initial_reconnect_backoff_ms", 500),
        ("grpc.max_reconnect_backoff_ms", 5_000),
    )


def _both(alive: int) -> tuple[Option, ...]:
    return (
        ("grpc.http2.max_frame_size", _FRAME),
        ("grpc.max_send_message_length", _MESSAGE),
        ("grpc.max_receive_message_length", _MESSAGE),
        ("grpc.max_metadata_size", _METADATA),
        ("grpc.http2.lookahead_bytes", _UNDER_WAY),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.keepalive_time_ms", alive),
        ("grpc.keepalive_timeout_ms", _ANSWER),
        # What the one above is said to do: without it a dead peer is noticed a minute later.
        ("grpc.http2.ping_timeout_ms", _ANSWER),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )


def _milliseconds(time: timedelta) -> int:
    return int(time / timedelta(milliseconds=1))


def most_connections() -> int:
    """Return how many connections there may be: with room for files below the process's limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else max(min(_MOST, soft // 2), 1)
