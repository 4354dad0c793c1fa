"""Why a node fails: named faults, each tried in isolation against the candidate's output."""

from parity.torch_side.hypotheses.case import ROUNDINGS, Case, Diagnosis, Hypothesis
from parity.torch_side.hypotheses.diagnosis import Trial, diagnose

__all__ = ["ROUNDINGS", "Case", "Diagnosis", "Hypothesis", "Trial", "diagnose"]
