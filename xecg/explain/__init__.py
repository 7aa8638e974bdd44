"""Where a network looks, measured."""
