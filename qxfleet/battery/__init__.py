"""What a battery is worth: discharges, health, learned runtime, and which battery is where."""
