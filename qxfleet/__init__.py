"""qxfleet watches and steers fleets of UPSes that speak the Q*/Megatec/Voltronic protocols."""

__version__ = "0.1.0"
