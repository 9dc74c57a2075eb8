"""Shipped on purpose: simulated UPSes, faulty links and replay, to rehearse plans and to report devices."""
