"""Speed and memory, measured side by side with other projects; one command each."""
