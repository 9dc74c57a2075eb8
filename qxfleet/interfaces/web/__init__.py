"""The web page and the JSON API of ``[http]``. FastAPI is loaded when the table is there, never before."""

from qxfleet.interfaces.web.server import Web

__all__ = ["Web"]
