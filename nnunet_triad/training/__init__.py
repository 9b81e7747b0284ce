"""What every training loop shares: processes, signals, schedules, logs, saved states, memory."""
