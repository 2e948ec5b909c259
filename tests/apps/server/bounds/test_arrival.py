import asyncio

import pytest

from overpaint.apps.server.bounds.arrival import Arrival

START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"a"}


def answer(messages, error=None) -> list:
    """How often the request's end had been noted when each message left."""
    ends, counts = [], []

    async def run():
        async def send(message):
            counts.append(len(ends))

        request = Arrival(None)
        request.at_end.append(lambda: ends.append(1))
        with request.answering(send) as send_before_end:
            for message in messages:
                await send_before_end(message)
            if error is not None:
                raise error

    try:
        asyncio.run(run())
    finally:
        assert ends == [1]
    return counts


def test_what_it_held_is_free_before_the_answer_is_whole():
    assert answer([START, {**BODY, "more_body": True}, BODY]) == [0, 0, 1]


def test_a_caller_that_hung_up_frees_it_too():
    with pytest.raises(ConnectionResetError):
        answer([START], ConnectionResetError())
