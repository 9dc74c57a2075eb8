"""``interfaces_user``: the interfaces run as somebody else, read history, and reach neither ports nor the secrets of loads."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interfaces.nut_stage import free_port
from tests.interfaces.test_upsd import certificate
from tests.parts import absent
from tests.scenarios.play import Play, family, until

USER = "nobody"


def may_open(user: pwd.struct_passwd, file: Path) -> bool:
    """Whether that user can read a file."""
    done = subprocess.run(
        ["head", "-c", "0", str(file)], user=user.pw_uid, group=user.pw_gid, extra_groups=[], capture_output=True, check=False
    )
    return done.returncode == 0


def python_for_all(folder: Path) -> list[str]:
    """What runs a command so that everybody reaches this Python; nothing where everybody does."""
    home = Path(sys.base_prefix).resolve()
    closed = next((each for each in reversed(home.parents) if not each.stat().st_mode & stat.S_IXOTH), None)
    if closed is None:
        return []
    if shutil.which("unshare") is None:
        absent("no unshare here: apt-get install -y util-linux")
    aside = folder / "python"
    aside.mkdir()
    open_up = (
        f"mount --bind {home} {aside} && mount -t tmpfs -o mode=755 none {closed} && mkdir -p {home} && "
        f'mount --bind {aside} {home} && exec "$@"'
    )
    if subprocess.run(["unshare", "-m", "sh", "-c", open_up, "sh", "true"], capture_output=True, check=False).returncode:
        absent(f"{closed} is closed to {USER}, and no mounts of one's own can be made here")
    return ["unshare", "-m", "sh", "-c", open_up, "sh"]


@pytest.mark.more
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have something run as somebody else")
async def test_the_interfaces_run_as_another_user_and_reach_no_more_than_they_need(tmp_path: Path) -> None:
    user, nut, http = pwd.getpwnam(USER), free_port(), free_port()
    async with Play(family(2), agent={"interfaces_user": json.dumps(USER)}, within=python_for_all(tmp_path)) as play:
        play.folder.chmod(0o711)
        certificate(play.folder)
        os.chown(play.folder / "key.pem", -1, user.pw_gid)
        (play.folder / "key.pem").chmod(0o640)
        secret = play.folder / "load.secret"
        secret.write_text("the load's\n")
        secret.chmod(0o600)
        with play.config.open("a") as config:
            config.write(
                f'\n[nut]\nlisten = ["127.0.0.1:{nut}"]\ncert = "cert.pem"\nkey = "key.pem"\n'
                f'[http]\nlisten = ["127.0.0.1:{http}"]\n'
                '[shutdown]\n[[load]]\nname = "host"\nfed_by = ["ups-01"]\n'
                f'stop = {{ webhook = "https://127.0.0.1/", token_file = "{secret}" }}\ndown_when = {{ exit = ["/bin/true"] }}\n'
            )
        await play.start()
        await play.all_online()
        pid = await play.interfaces()
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert set(status["Uid"].split()) == {str(user.pw_uid)}
        assert set(status["Gid"].split()) == {str(user.pw_gid)}
        assert set(status["Groups"].split()) <= {str(group) for group in os.getgrouplist(USER, user.pw_gid)}

        async def got(path: str) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", http)
            writer.write(f"GET /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read()
            writer.close()
            return answer

        async def recorded() -> bool:
            try:
                answer = await got("/events")
            except OSError:
                return False
            return b"200 OK" in answer and b'"battery-registered"' in answer

        await until(recorded, 60, f"events, which the interfaces read by themselves; the log: {play.log()}")
        assert b"200 OK" in await got("/ups/ups-01/history/input.voltage?since=1h")
        reader, writer = await asyncio.open_connection("127.0.0.1", nut)
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"OK STARTTLS\n"
        writer.close()

        state = next(play.folder.glob("fleet.db"))
        assert may_open(user, state)
        assert state.stat().st_mode & 0o777 == 0o640
        ports = [Path(os.path.realpath(play.farm.link(name))) for name in play.farm.upses]
        for closed in (secret, play.folder / "agent.sock", *ports, *play.folder.glob("fleet.db.*"), *play.folder.glob("*.spool")):
            assert not may_open(user, closed), closed
        open_files = {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}
        assert not open_files & {str(port) for port in ports}
        assert "Traceback" not in play.log()
