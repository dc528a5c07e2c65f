"""Parts of test_update.py."""
