"""What ``import qxfleet`` gives."""

from qxfleet.library import connect as connect

__version__: str
