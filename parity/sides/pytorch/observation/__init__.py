"""Candidates whose every operation is seen, whatever their code calls its parts."""
