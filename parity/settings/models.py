"""What ``models`` can be told."""

from __future__ import annotations

from dataclasses import dataclass

from parity.settings.option import Settings, json_option


@dataclass(frozen=True, kw_only=True)
class ModelsSettings(Settings):
    """A list of the models and releases."""

    COMMAND = "models"
    RESULT = "json"
    HELP = "list every official model and release by name, with what is known of each"
    ABOUT = (
        "Lists the names that stand for a checkpoint of Google's, or with --model for a model: "
        "what each network computes, its published AP, its address, and how its content is "
        "recognised. Reads and downloads nothing."
    )
    EXAMPLES = (("models", "print the list"), ("models --json", "every figure and digest"))

    json: str | None = json_option("the list")
