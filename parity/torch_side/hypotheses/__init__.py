"""Why a node fails: named faults, each tried in isolation against the candidate's output."""

from parity.torch_side.hypotheses.case import Case, Diagnosis, Hypothesis
from parity.torch_side.hypotheses.diagnosis import diagnose

__all__ = ["Case", "Diagnosis", "Hypothesis", "diagnose"]
