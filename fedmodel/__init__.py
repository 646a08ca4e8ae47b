"""Hospitals jointly fine-tune a Hugging Face transformer under differential privacy."""
