"""The network's own mistakes that are known whole; single layers are for ``nodes`` to find."""

from parity.pipelines.stages.pipeline import Mistake

MISTAKES = (
    Mistake(
        "raw-weights",
        "raw weights instead of averages (EMA)",
        "network",
        {"network": "raw"},
    ),
    Mistake(
        "zero-padded-pool",
        "max-pools padded with zeros",
        "network",
        {"network": "zero-padded-pool"},
    ),
)
