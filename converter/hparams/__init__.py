"""Hyperparameters as the official code writes and reads them: ``config.yaml`` and ``--hparams``."""
