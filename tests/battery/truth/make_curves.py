"""Makes ``curves.json``: discharges of one lead-acid cell by PyBaMM, which neither the package nor its tests need.

    python -m venv /tmp/pybamm && /tmp/pybamm/bin/pip install pybamm==26.10.1.1   # the version is in the table
    /tmp/pybamm/bin/python tests/battery/truth/make_curves.py

Model: Sulzer, Chapman, Please, Howey and Monroe, "Faster lead-acid battery simulations from porous-electrode theory", parts I
and II, J. Electrochem. Soc. 166 (2019) A2363 and A2372, with their parameters (set ``Sulzer2019``, a cell of 17 Ah), not reduced.
Each curve is a discharge of the full cell at constant current: volts at equal steps of charge drawn, to 1.6 V.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pybamm  # type: ignore[import-not-found,unused-ignore]

RATES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
"""Currents in multiples of the nominal one-hour current."""

POINTS = 60
CUT_V = 1.6


def curve(rate: float) -> dict[str, Any]:
    """Ampere-hours of each step and the volts there."""
    values = pybamm.ParameterValues("Sulzer2019")
    for side in ("Negative", "Positive"):  # in this version the set still has the old names, its models ask for the new ones
        potential = values[f"{side} electrode open-circuit potential [V]"]
        values.update({f"{side} electrode OCP [V]": potential}, check_already_exists=False)
    values["Current function [A]"] = rate * values["Nominal cell capacity [A.h]"]
    values["Lower voltage cut-off [V]"] = CUT_V
    simulation = pybamm.Simulation(pybamm.lead_acid.Full(), parameter_values=values)
    solution = simulation.solve(np.linspace(0, 3600 * 1.6 / rate, 800))
    drawn, volts = solution["Discharge capacity [A.h]"].entries, solution["Voltage [V]"].entries
    at = np.interp(np.linspace(0, drawn[-1], POINTS), drawn, volts)
    return {"rate": rate, "empty_ah": round(float(drawn[-1]), 4), "volts": [round(float(each), 4) for each in at]}


if __name__ == "__main__":
    table = {
        "made_by": f"PyBaMM {pybamm.__version__}", "parameters": "Sulzer2019", "nominal_ah": 17.0, "cut_v": CUT_V,
        "curves": [curve(rate) for rate in RATES],
    }  # fmt: skip
    (Path(__file__).parent / "curves.json").write_text(json.dumps(table) + "\n")
