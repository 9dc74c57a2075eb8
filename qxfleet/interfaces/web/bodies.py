"""What the JSON API is told, by request; what it answers is in ``qxfleet.api.responses``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Target = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^(group:)?[A-Za-z0-9._-]+$")]
Targets = Annotated[
    list[Target], Field(min_length=1, max_length=1000, description="UPS names, `group:NAME`, `all`.", examples=[["group:feed-a"]])
]


class Order(BaseModel):
    """The value of a command; seconds, where it takes one."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    value: float | Annotated[str, Field(max_length=64)] | None = Field(None, examples=[600])


class Change(BaseModel):
    """The new value of a setting."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    value: float | Annotated[str, Field(max_length=64)] = Field(examples=[240])


class WantedToken(BaseModel):
    """A token you want. It acts as you."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", examples=["grafana"])
    allow: list[Literal["read", "command", "set", "fsd", "test", "shutdown"]] | None = Field(
        None, description="Rights; null: all of yours.", examples=[["read"]]
    )
    expires_s: float | None = Field(None, gt=0, le=10 * 366 * 86400, description="Null: never.", examples=[7776000])


class WantedTests(BaseModel):
    """Battery tests to begin: one wave."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    targets: Targets
    kind: Literal["quick", "deep", "timed"] = "quick"
    for_s: float | None = Field(None, ge=1, le=86400, description="Length of a timed test.", examples=[600])
    depth_percent: int | None = Field(None, ge=1, le=90, description="A deep test ends at this depth.", examples=[40])
    max_parallel: int | None = Field(None, ge=1, le=1000, description="UPSes at the same time.", examples=[2])


class WantedTargets(BaseModel):
    """Which UPSes are meant."""

    model_config = ConfigDict(extra="forbid")

    targets: Targets


class WantedMaintenance(BaseModel):
    """Maintenance to begin now."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    targets: Targets
    for_s: float | None = Field(None, ge=60, le=366 * 86400, description="Null: until somebody ends it.", examples=[7200])
    reason: str = Field("", max_length=200, examples=["new batteries"])


class WantedShutdown(BaseModel):
    """A shutdown to begin now: loads, UPSes whose loads are meant, `group:NAME`, `all`."""

    model_config = ConfigDict(extra="forbid")

    targets: Targets
    cut: bool = Field(False, description="Cut the UPSes behind what was stopped, too.")
    drill: bool = Field(False, description="A rehearsal.")


class WantedEnd(BaseModel):
    """The end of a run."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field("", max_length=200, examples=["db-1 was switched on by hand"])


class WantedArming(BaseModel):
    """Arming or disarming."""

    model_config = ConfigDict(extra="forbid")

    armed: bool
    reason: str = Field("", max_length=200, examples=["drill of May passed"])
