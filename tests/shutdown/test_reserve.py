"""Descriptors and threads used up by somebody else: stops have their own, and what can't be begun is refused, not unconfirmed."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from qxfleet.model.events import Outcome
from qxfleet.shutdown.effects import RealEffects
from qxfleet.shutdown.reserve import Reserve


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Every descriptor of this process is taken."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    taken: list[int] = []
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        for each in taken:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_without_descriptors_a_stop_is_not_begun_and_says_so() -> None:
    effects = RealEffects()
    with no_descriptors():
        done = await effects.command(["/bin/echo", "stopped"], 5)
    assert (done.outcome, done.text) == (Outcome.REJECTED, "/bin/echo can't be started: Too many open files")


async def test_descriptors_set_aside_are_there_for_a_whole_staging_of_stops() -> None:
    reserve = Reserve()
    reserve.fill()
    set_aside = reserve.descriptors
    try:
        effects = RealEffects(reserve)
        with no_descriptors():
            done = await asyncio.gather(*(effects.command(["/bin/echo", "stopped"], 20) for _ in range(20)))
            again = await effects.command(["/bin/echo", "stopped"], 20)
        assert [(each.outcome, each.text) for each in (*done, again)] == [(Outcome.ACCEPTED, "stopped")] * 21
        assert reserve.descriptors == set_aside, "what an act gives back is set aside again"
    finally:
        reserve.close()


async def test_a_webhook_without_a_thread_is_not_begun_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    effects = RealEffects()
    monkeypatch.setattr(threading.Thread, "start", no_more)
    done = await effects.webhook("http://127.0.0.1:9/", {}, {}, 2)
    assert done.outcome is Outcome.REJECTED
    assert "can't start new thread" in done.text


async def test_threads_set_aside_post_when_no_other_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    reserve = Reserve()
    reserve.fill()

    def no_more(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    try:
        monkeypatch.setattr(threading.Thread, "start", no_more)
        done = await RealEffects(reserve).webhook("http://127.0.0.1:9/", {}, {}, 5)
        assert done.outcome is Outcome.REJECTED
        assert "Connection refused" in done.text
    finally:
        monkeypatch.undo()
        reserve.close()
