"""Why a node fails: named faults, each tried in isolation against the candidate's output."""

from parity.faults.case import ROUNDINGS, Case, Diagnosis, Hypothesis
from parity.faults.diagnosis import Trial, diagnose
from parity.faults.parameters import (
    Account,
    account_for_parameters,
    account_for_training,
)

__all__ = [
    "ROUNDINGS",
    "Account",
    "Case",
    "Diagnosis",
    "Hypothesis",
    "Trial",
    "account_for_parameters",
    "account_for_training",
    "diagnose",
]
