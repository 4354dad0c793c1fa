"""What any long command needs, whatever it computes: messages, signals, files, exit codes."""
