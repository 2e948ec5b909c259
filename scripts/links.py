"""Whether the addresses that the documents link to answer; run it by hand, it needs a network.

python -m scripts.links     print those that do not; exit 1 if there are any

Links between documents need no network: MkDocs checks those of the site, tests/docs the others.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import httpx

from scripts.prose import PAGES, ROOT

AT_A_TIME = 8
SECONDS = 20
_ADDRESS = re.compile(r"(?:\]\(|<)(https?://[^\s)>#]+)")
_OURS = re.compile(r"https?://(?:127\.0\.0\.1|localhost|[\w.-]*example\.\w+)\b")


def addresses() -> dict[str, list[str]]:
    """The addresses that are linked, each with the documents that link to it."""
    linked = defaultdict(list)
    for pattern in PAGES:
        for file in sorted(ROOT.glob(pattern)):
            for address in _ADDRESS.findall(file.read_text(encoding="utf-8")):
                if not _OURS.match(address):
                    linked[address].append(file.relative_to(ROOT).as_posix())
    return dict(linked)


def fault(address: str) -> str:
    """What is wrong with an address; '' = it answers."""
    headers = {"user-agent": "Mozilla/5.0 (compatible; link check)"}
    try:
        with httpx.stream(
            "GET", address, follow_redirects=True, timeout=SECONDS, headers=headers
        ) as answer:
            return "" if answer.is_success else f"HTTP status {answer.status_code}"
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    linked = addresses()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        faults = dict(zip(linked, pool.map(fault, linked), strict=True))
    wrong = {address: text for address, text in faults.items() if text}
    for address, text in wrong.items():
        print(f"{address}: {text} ({', '.join(linked[address])})")
    print(f"{len(linked)} addresses, {len(wrong)} do not answer")
    sys.exit(bool(wrong))
