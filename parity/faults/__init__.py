"""The ways in which ports go wrong: each can be put into a faithful model, and is recognised."""

from parity.faults.account import (
    Account,
    account_for_parameters,
    account_for_settings,
    account_for_training,
)
from parity.faults.basics.case import ROUNDINGS, Case, Diagnosis, Hypothesis, Site
from parity.faults.diagnosis import Attempt, diagnose
from parity.faults.spans import before_norm, behind_convolution

__all__ = [
    "ROUNDINGS",
    "Account",
    "Attempt",
    "Case",
    "Diagnosis",
    "Hypothesis",
    "Site",
    "account_for_parameters",
    "account_for_settings",
    "account_for_training",
    "before_norm",
    "behind_convolution",
    "diagnose",
]
