"""The web page: read by people, kept up to date by the same API that programs use."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(include_in_schema=False)
