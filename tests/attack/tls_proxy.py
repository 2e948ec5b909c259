"""Reverse proxies that speak TLS to the world and plain HTTP to the server behind them."""

from __future__ import annotations

import asyncio
import datetime
import functools
import re
import shutil
import socket
import ssl
import subprocess
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import anyio.from_thread
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PUBLIC = "edit.example.org"
CHAIN, SECRET = "chain.pem", "key.pem"
DOCS = Path(__file__).parents[2] / "docs" / "serving.md"


def certificate(folder) -> None:
    """Make files of a certificate for the public name that signs itself, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, PUBLIC)])
    today = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(PUBLIC)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / CHAIN).write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / SECRET).write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


@contextmanager
def plain(folder, backend):
    """A proxy of our own: one request per connection, named on with its scheme."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / CHAIN, folder / SECRET)
    with anyio.from_thread.start_blocking_portal() as portal:
        relay = functools.partial(_relay, backend)
        server = portal.call(_listen, relay, context)
        yield server.sockets[0].getsockname()[1]
        portal.call(server.close)


async def _listen(relay, context):
    return await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)


async def _relay(backend, front, to_front) -> None:
    back, to_back = await asyncio.open_connection("127.0.0.1", backend)
    with closing(to_front), closing(to_back), suppress(OSError, asyncio.IncompleteReadError):
        header = (await front.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n")
        lines = [line for line in header.split(b"\r\n") if not line.lower().startswith(b"conn")]
        lines += [b"X-Forwarded-Proto: https", b"X-Forwarded-For: 192.0.2.7", b"Connection: close"]
        to_back.write(b"\r\n".join(lines) + b"\r\n\r\n")
        body = asyncio.create_task(_pipe(front, to_back))
        await _pipe(back, to_front)
        body.cancel()


async def _pipe(source, target) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()


@contextmanager
def nginx(folder, backend):
    """nginx with the very lines that docs/serving.md recommends."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    block = re.search(r"```nginx\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)[1]
    for stated, ours in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/edit.pem", str(folder / CHAIN)),
        ("/etc/ssl/edit.key", str(folder / SECRET)),
        ("127.0.0.1:8000", f"127.0.0.1:{backend}"),
    ):
        assert stated in block
        block = block.replace(stated, ours)
    paths = "".join(
        f"{kind}_temp_path {folder / kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = folder / "nginx.conf"
    file.write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/log;\nevents {{}}\n"
        f"http {{ access_log off;\n{paths}{block}\n}}\n"
    )
    process = subprocess.Popen([shutil.which("nginx"), "-e", folder / "log", "-c", file])
    try:
        end = time.monotonic() + 10
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)
