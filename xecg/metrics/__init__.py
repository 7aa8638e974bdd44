"""How well a task is done: metrics while training, reports with intervals at test."""
