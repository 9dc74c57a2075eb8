"""A writable variable keeps the value it was given, whatever happens to the link."""

from __future__ import annotations

import asyncio

from qxfleet.model.events import Link, LinkChange, Outcome
from tests.session.script import Contact, Device
from tests.virtual import run_virtual


def delay(contact: Contact) -> object:
    (value,) = [each.value for each in contact.session.settings() if each.name == "ups.delay.shutdown"]
    return value


def test_a_setting_outlives_the_contact_it_was_made_in() -> None:
    async def story() -> None:
        device = Device()
        async with Contact(device) as contact:
            await asyncio.sleep(5)
            assert (await contact.session.set("ups.delay.shutdown", "120")).outcome is Outcome.ACCEPTED
            device.plugged = False
            await asyncio.sleep(20)
            device.plugged = True
            await asyncio.sleep(60)
            links = [item.link for item in contact.seen if isinstance(item, LinkChange)]
            assert links[-1] is Link.ONLINE and Link.LOST in links
            assert delay(contact) == 120.0
            assert contact.session.prepare("shutdown.return", None).request == b"S02R0003\r"

    run_virtual(story())


def test_a_setting_made_before_the_first_contact_is_there_in_it() -> None:
    async def story() -> None:
        device = Device()
        device.plugged = False
        async with Contact(device) as contact:
            await asyncio.sleep(1)
            assert (await contact.session.set("ups.delay.shutdown", "120")).outcome is Outcome.ACCEPTED
            assert delay(contact) == 120.0
            device.plugged = True
            await asyncio.sleep(60)
            assert delay(contact) == 120.0

    run_virtual(story())
